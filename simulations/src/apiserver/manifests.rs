//! Reading manifests from files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

/// Why manifests could not be read.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error("{} is not a manifest", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
}

/// All documents of a file, or of the `.yaml` and `.json` files of a folder in order of their names. Kustomizations are
/// left out.
///
/// # Errors
/// Something cannot be read or is no YAML.
pub fn manifests(path: &Path) -> Result<Vec<Value>, ManifestError> {
    let read = |source| ManifestError::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(read)? {
            let file = entry.map_err(read)?.path();
            let known = file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
            if known && file.file_stem().is_none_or(|stem| stem != "kustomization") {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut all = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).map_err(|source| ManifestError::Read { path: file.clone(), source })?;
        all.extend(parse_manifests(&file, &text)?);
    }
    Ok(all)
}

/// All documents of a text; `path` stands in messages.
///
/// # Errors
/// It is no YAML.
pub fn parse_manifests(path: &Path, text: &str) -> Result<Vec<Value>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| ManifestError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    Ok(documents.into_iter().filter(Value::is_object).collect())
}
