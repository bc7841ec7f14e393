//! Where the way to the API is written down.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use nameward_config::settings::Kubernetes;

use super::ConnectError;

/// A configuration and where it was found.
pub(super) struct Source {
    pub(super) config: Config,
    pub(super) path: String,
}

pub(super) async fn load(settings: &Kubernetes) -> Result<Source, ConnectError> {
    if !settings.kubeconfig.is_empty() {
        return from_file(Path::new(&settings.kubeconfig), &settings.context, "kubernetes.kubeconfig").await;
    }
    let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token");
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && account.exists() {
        let config = Config::incluster().map_err(|source| ConnectError::ServiceAccount { source })?;
        return Ok(Source { config, path: "the pod's service account".to_owned() });
    }
    // Of several files in KUBECONFIG the first that exists counts; they are not merged.
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    if let Some(named) = named {
        let paths: Vec<PathBuf> = std::env::split_paths(&named).collect();
        if let Some(path) = paths.iter().find(|path| path.exists()).or(paths.first()) {
            return from_file(path, &settings.context, "KUBECONFIG").await;
        }
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("~"), PathBuf::from).join(".kube/config");
    if home.exists() {
        return from_file(&home, &settings.context, "kubernetes.kubeconfig").await;
    }
    Err(ConnectError::Nothing { home: home.display().to_string() })
}

async fn from_file(file: &Path, context: &str, setting: &'static str) -> Result<Source, ConnectError> {
    let path = file.display().to_string();
    let broken = |source| ConnectError::Broken { path: path.clone(), context: context.to_owned(), setting, source };
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, _) => ConnectError::Unreadable { path: path.clone(), setting, source },
        other => broken(other),
    })?;
    let wanted = if context.is_empty() { kubeconfig.current_context.clone() } else { Some(context.to_owned()) };
    let known: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    if let Some(wanted) = wanted.as_deref().filter(|wanted| !known.contains(wanted)) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(ConnectError::UnknownContext { path, context: wanted.to_owned(), known });
    }
    let options = KubeConfigOptions { context: wanted, ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(broken)?;
    Ok(Source { config, path })
}
