//! One request, decided under the lock: who may, what is meant, what happens.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::json::{at, list, put, text};
use super::rbac::{Ask, allowed, granted_by, url_granted_by};
use super::read;
use super::request::{ApiRequest, Named, Target, User, parse_path};
use super::resources::Resource;
use super::selector::Fields;
use super::state::State;
use super::status::{Outcome, Refusal};
use super::watch::Plan;
use super::{create, discovery, evict, remove, scale, write};

/// When a request is handled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) at: Instant,
    /// Since the server started.
    pub(crate) elapsed: Duration,
}

impl Moment {
    /// As `creationTimestamp` spells it.
    pub(crate) fn stamp(&self) -> String {
        stamp(self.wall)
    }
}

/// RFC 3339 in whole seconds.
pub(crate) fn stamp(wall: Timestamp) -> String {
    wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A request on a resource.
pub(crate) struct Call<'c> {
    pub(crate) request: &'c ApiRequest,
    pub(crate) target: &'c Target,
    pub(crate) resource: Arc<Resource>,
    pub(crate) moment: &'c Moment,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A body in JSON.
    Json(u16, Value),
    /// A body in plain text.
    Text(u16, String),
    /// A refusal.
    Refused(Refusal),
    /// A stream of events.
    Watch(Box<Plan>),
}

impl Reply {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Json(code, _) | Self::Text(code, _) => *code,
            Self::Refused(refusal) => refusal.code,
            Self::Watch(_) => 200,
        }
    }
}

/// The verb of authorisation for a request on a resource.
pub(crate) fn verb_of(request: &ApiRequest, target: &Target) -> &'static str {
    match request.method.as_str() {
        "GET" | "HEAD" if request.flag("watch") => "watch",
        "GET" | "HEAD" if target.name.is_empty() => "list",
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if target.name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        _ => "unknown",
    }
}

/// Handles a request.
pub(crate) fn handle(state: &mut State, request: &ApiRequest, moment: &Moment) -> Reply {
    let target = match parse_path(&request.path) {
        Named::Other(parts) => return discovery::answer(state, &parts),
        Named::Resource(target) => target,
    };
    match on_resource(state, request, &target, moment) {
        Ok(Reply::Json(code, body)) if wants_metadata(request) => Reply::Json(code, read::metadata_only(body)),
        Ok(reply) => reply,
        Err(refusal) => Reply::Refused(refusal),
    }
}

fn wants_metadata(request: &ApiRequest) -> bool {
    request.accept.contains("as=PartialObjectMetadata")
}

fn on_resource(state: &mut State, request: &ApiRequest, target: &Target, moment: &Moment) -> Outcome<Reply> {
    authorize(state, request, target)?;
    if request.method == "POST" && target.name.is_empty() && target.plural.ends_with("reviews") {
        return review(state, request, target);
    }
    let resource = state
        .resource(&target.group, &target.plural)
        .filter(|resource| resource.version == target.version)
        .filter(|resource| target.subresource.is_empty() || resource.serves(&target.subresource))
        .filter(|resource| !resource.namespaced || !target.namespace.is_empty() || target.name.is_empty())
        .ok_or_else(Refusal::page_not_found)?;
    let call = Call { request, target, resource, moment };
    let verb = verb_of(request, target);
    let (code, body) = match (verb, target.subresource.as_str()) {
        ("watch", "") => return Ok(Reply::Watch(Box::new(Plan::of(state, &call)?))),
        ("list", "") => (200, read::list(state, &call)?),
        ("get", "scale") => (200, scale::of(&*read::get(state, &call)?)),
        ("get", "" | "status" | "resize") => (200, (*read::get(state, &call)?).clone()),
        ("create", "") if target.name.is_empty() => (201, create::create(state, &call)?),
        ("create", "eviction") => (201, evict::evict(state, &call)?),
        ("update" | "patch", "scale") => (200, scale::change(state, &call, verb == "patch")?),
        ("update", _) => write::update(state, &call)?,
        ("patch", _) => write::patch(state, &call)?,
        ("delete", "") => (200, remove::delete(state, &call)?),
        ("deletecollection", "") => (200, remove::delete_all(state, &call)?),
        _ => {
            return Err(Refusal::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
                json!({}),
            ));
        }
    };
    Ok(Reply::Json(code, body))
}

fn authorize(state: &State, request: &ApiRequest, target: &Target) -> Outcome<()> {
    let verb = verb_of(request, target);
    let mut name = target.name.clone();
    if name.is_empty()
        && matches!(verb, "list" | "watch" | "deletecollection")
        && let Some(resource) = state.resource(&target.group, &target.plural)
        && let Ok(fields) = Fields::parse(&resource, request.param("fieldSelector"))
    {
        name = fields.name().unwrap_or_default().to_owned();
    }
    let ask = Ask {
        verb,
        group: &target.group,
        plural: &target.plural,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: &name,
    };
    permit(state, request, target, &ask)
}

/// Refuses what the roles do not allow.
pub(crate) fn permit(state: &State, request: &ApiRequest, target: &Target, ask: &Ask<'_>) -> Outcome<()> {
    let roles = granted_by(state, &request.user, ask);
    state.rights.note(&request.user, ask, &roles);
    if !roles.is_empty() {
        return Ok(());
    }
    let qualified = super::resources::qualify(&target.plural, &target.group);
    let named = if target.name.is_empty() { qualified } else { format!("{qualified} {:?}", target.name) };
    let mut details = json!({"kind": target.plural});
    if !target.name.is_empty() {
        put(&mut details, &["name"], target.name.clone());
    }
    if !target.group.is_empty() {
        put(&mut details, &["group"], target.group.clone());
    }
    Err(Refusal::new(403, "Forbidden", format!("{named} is forbidden: {}", ask.refusal(&request.user)), details))
}

/// Reviews are answered, not stored.
fn review(state: &State, request: &ApiRequest, target: &Target) -> Outcome<Reply> {
    let mut body = request.json()?;
    put(&mut body, &["metadata"], json!({}));
    match (target.group.as_str(), target.plural.as_str()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => {
            let attributes = at(&body, &["spec", "resourceAttributes"]).cloned().unwrap_or_default();
            let word = |name: &str| text(&attributes, &[name]);
            let ask = Ask {
                verb: word("verb"),
                group: word("group"),
                plural: word("resource"),
                subresource: word("subresource"),
                namespace: word("namespace"),
                name: word("name"),
            };
            put(&mut body, &["status"], json!({"allowed": allowed(state, &request.user, &ask)}));
        }
        ("authentication.k8s.io", "tokenreviews") => {
            let status = token_status(state, &body);
            put(&mut body, &["status"], status);
        }
        ("authorization.k8s.io", "subjectaccessreviews") => {
            let word = |path: &[&str]| text(&body, path);
            let groups =
                list(&body, &["spec", "groups"]).iter().filter_map(|g| g.as_str().map(str::to_owned)).collect();
            let user = User { name: word(&["spec", "user"]).to_owned(), groups, ..User::default() };
            let of_url = |member| word(&["spec", "nonResourceAttributes", member]);
            let of_resource = |member| word(&["spec", "resourceAttributes", member]);
            let allowed = if at(&body, &["spec", "nonResourceAttributes"]).is_some() {
                let (verb, path) = (of_url("verb"), of_url("path"));
                let role = url_granted_by(state, &user, verb, path);
                if let Some(role) = &role {
                    state.rights.url(role, verb, path);
                }
                role.is_some()
            } else {
                let ask = Ask {
                    verb: of_resource("verb"),
                    group: of_resource("group"),
                    plural: of_resource("resource"),
                    subresource: of_resource("subresource"),
                    namespace: of_resource("namespace"),
                    name: of_resource("name"),
                };
                allowed(state, &user, &ask)
            };
            put(&mut body, &["status"], json!({"allowed": allowed}));
        }
        _ => return Err(Refusal::page_not_found()),
    }
    Ok(Reply::Json(201, body))
}

/// Whom a token belongs to, if it was made for one of the audiences asked for; for the API server where none is.
fn token_status(state: &State, review: &Value) -> Value {
    let token = text(review, &["spec", "token"]);
    let wanted = list(review, &["spec", "audiences"]);
    let found = if wanted.is_empty() {
        state.tokens.get(token).map(|user| (user, Vec::new()))
    } else {
        let (user, made_for) = state.foreign.get(token).map(|(user, made_for)| (Some(user), made_for)).unzip();
        let both: Vec<&String> =
            made_for.into_iter().flatten().filter(|one| wanted.iter().any(|w| w == *one)).collect();
        user.flatten().filter(|_| !both.is_empty()).map(|user| (user, both))
    };
    match found {
        Some((user, audiences)) => json!({"authenticated": true, "audiences": audiences, "user": {
            "username": user.name, "groups": user.all_groups(), "extra": user.extra}}),
        None => json!({"user": {}, "error": "[invalid bearer token, unknown token]"}),
    }
}
