//! The krew manifest: its form, as krew's index checks it, and that it fits what a release builds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use nameward_simulations::apiserver::parse_manifests;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn manifest(text: &str) -> Value {
    parse_manifests(Path::new("nameward.yaml"), text).unwrap().remove(0)
}

/// <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/> and `validate-krew-manifest` of krew.
#[test]
fn the_manifest_has_the_form_that_krew_wants() {
    let plugin = manifest(include_str!("../deploy/krew/nameward.yaml"));
    assert_eq!(plugin["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(plugin["kind"], "Plugin");
    assert_eq!(plugin["metadata"]["name"], "nameward");
    let spec = &plugin["spec"];
    assert_eq!(spec["version"], format!("v{VERSION}"));
    let short = spec["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50 && !short.ends_with('.') && !short.contains('\n'), "{short}");
    assert!(spec["homepage"].as_str().unwrap().starts_with("https://"));
    let platforms = spec["platforms"].as_array().unwrap();
    let release = include_str!("../deploy/release");
    assert!(release.contains("name=nameward-$version-linux-$arch"), "the archives have other names now");
    for (platform, arch) in platforms.iter().zip(["amd64", "arm64"]) {
        assert_eq!(platform["selector"]["matchLabels"], serde_json::json!({"os": "linux", "arch": arch}));
        let folder = format!("nameward-{VERSION}-linux-{arch}");
        let uri = platform["uri"].as_str().unwrap();
        assert!(uri.starts_with("https://") && uri.ends_with(&format!("/v{VERSION}/{folder}.tar.gz")), "{uri}");
        let sum = platform["sha256"].as_str().unwrap();
        assert!(sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()), "{sum}");
        let from: Vec<&str> =
            platform["files"].as_array().unwrap().iter().map(|f| f["from"].as_str().unwrap()).collect();
        assert_eq!(from, [format!("{folder}/nameward"), format!("{folder}/LICENSE")]);
        assert_eq!(platform["bin"], "nameward", "what `files` puts there");
        assert!(release.contains("\"$folder/nameward\"") && release.contains("LICENSE"));
    }
    assert_eq!(platforms.len(), 2);
}

#[test]
fn a_release_fills_in_the_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let fill = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/krew/fill");
        Command::new(script).arg(folder.path()).output().unwrap()
    };
    assert!(!fill().status.success(), "an archive is missing");
    for arch in ["amd64", "arm64"] {
        std::fs::write(folder.path().join(format!("nameward-{VERSION}-linux-{arch}.tar.gz")), arch).unwrap();
    }
    let filled = fill();
    assert!(filled.status.success(), "{filled:?}");
    let plugin = manifest(&String::from_utf8(filled.stdout).unwrap());
    // sha256sum of `amd64` and of `arm64`.
    let sums: Vec<&str> =
        plugin["spec"]["platforms"].as_array().unwrap().iter().map(|p| p["sha256"].as_str().unwrap()).collect();
    assert!(sums.iter().all(|sum| sum.len() == 64 && !sum.starts_with("0000")), "{sums:?}");
    assert_ne!(sums[0], sums[1]);
}
