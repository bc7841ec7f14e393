//! Where the way to the API is written down.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use nameward_config::settings::Kubernetes;

use super::ConnectError;

/// How a file is named.
const BY_NAME: &str = "--kubeconfig, or kubernetes.kubeconfig";

/// A configuration and where it was found.
pub(super) struct Source {
    pub(super) config: Config,
    pub(super) path: String,
}

pub(super) async fn load(settings: &Kubernetes) -> Result<Source, ConnectError> {
    if !settings.kubeconfig.is_empty() {
        let file = PathBuf::from(&settings.kubeconfig);
        return from_files(&[file], &settings.context, BY_NAME).await;
    }
    let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token");
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && account.exists() {
        let config = Config::incluster().map_err(|source| ConnectError::ServiceAccount { source })?;
        return Ok(Source { config, path: "the pod's service account".to_owned() });
    }
    // As kubectl reads it: several files are merged, empty names and files that are not there are passed over.
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    if let Some(named) = named {
        let paths: Vec<PathBuf> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
        let there: Vec<PathBuf> = paths.iter().filter(|path| path.exists()).cloned().collect();
        let paths = if there.is_empty() { paths.into_iter().take(1).collect() } else { there };
        if !paths.is_empty() {
            return from_files(&paths, &settings.context, "KUBECONFIG").await;
        }
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("~"), PathBuf::from).join(".kube/config");
    if home.exists() {
        return from_files(&[home], &settings.context, BY_NAME).await;
    }
    Err(ConnectError::Nothing { home: home.display().to_string() })
}

pub(super) async fn from_files(
    files: &[PathBuf],
    context: &str,
    setting: &'static str,
) -> Result<Source, ConnectError> {
    let path = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(":");
    let broken = |source| ConnectError::Broken { path: path.clone(), context: context.to_owned(), setting, source };
    let mut kubeconfig = Kubeconfig::default();
    for file in files {
        let path = file.display().to_string();
        let read = Kubeconfig::read_from(file).map_err(|error| match error {
            KubeconfigError::ReadConfig(source, _) => ConnectError::Unreadable { path: path.clone(), setting, source },
            source => ConnectError::Broken { path: path.clone(), context: context.to_owned(), setting, source },
        })?;
        kubeconfig = kubeconfig.merge(read).map_err(broken)?;
    }
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
