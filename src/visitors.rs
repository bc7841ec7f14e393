//! Who may look at the status page from elsewhere: the API server says.

use nameward_cluster::calls::Cluster;
use nameward_metrics::{AUDIENCE, Review, Reviewing, Visitor};

/// Asks the API server, within the time of one call each.
pub(crate) struct ApiReview(pub(crate) Cluster);

impl Review for ApiReview {
    fn review(&self, token: &str, path: &'static str) -> Reviewing {
        let (cluster, token) = (self.0.clone(), token.to_owned());
        Box::pin(async move {
            let Some(user) = cluster.review_token(&token, AUDIENCE).await.map_err(|e| e.explain())? else {
                return Ok(Visitor::Unknown);
            };
            let may = cluster.may_read(&user, path).await.map_err(|e| e.explain())?;
            Ok(if may { Visitor::Allowed } else { Visitor::Forbidden { name: user.username } })
        })
    }
}
