//! The manifests under `deploy/` and the program agree: settings, arguments, names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nameward_cluster::names;
use nameward_config::{Config, load_text};
use nameward_messages::remedy::Mode;
use nameward_simulations::apiserver::manifests;
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn one(file: &str, kind: &str) -> Value {
    let all = manifests(&deploy().join(file)).unwrap();
    all.into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {file}"))
}

/// The settings that a process has under this ConfigMap and with these variables.
fn settings(config: &Value, env: Vec<(String, String)>) -> Config {
    let loaded = load_text("nameward.toml", config["data"]["nameward.toml"].as_str().unwrap(), env);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

/// The variables of a workload's only container; what the API fills in stands as `{fieldRef}`.
fn env(workload: &Value) -> BTreeMap<String, String> {
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let value = |one: &Value| match one["value"].as_str() {
        Some(value) => value.to_owned(),
        None => one["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned(),
    };
    container["env"].as_array().unwrap().iter().map(|e| (e["name"].as_str().unwrap().to_owned(), value(e))).collect()
}

#[test]
fn the_shipped_settings_are_the_defaults_and_acting_is_one_value() {
    let shipped = settings(&one("kustomize/base/config.yaml", "ConfigMap"), Vec::new());
    assert_eq!(shipped, Config::default());
    let mut acting = settings(&one("kustomize/components/acting/config.yaml", "ConfigMap"), Vec::new());
    assert_eq!(acting.remedy.mode, Mode::Act);
    acting.remedy.mode = Mode::Observe;
    assert_eq!(acting, Config::default(), "nothing else differs");
}

#[test]
fn every_variable_is_a_setting_and_every_folder_is_mounted() {
    let config = one("kustomize/base/config.yaml", "ConfigMap");
    let agent = one("kustomize/base/agent.yaml", "DaemonSet");
    let variables = env(&agent);
    assert_eq!(variables["NODE_NAME"], "spec.nodeName");
    let now = settings(&config, variables.into_iter().collect());
    let mounted: Vec<&str> = agent["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    let mut wanted = vec![now.netns.cni_results.clone(), now.diagnosis.cgroups.clone()];
    wanted.extend(now.netns.folders.clone());
    wanted.extend(now.netns.sandboxes.clone());
    wanted.push(Path::new(nameward_remedy::pause::PAUSE_FILE).parent().unwrap().to_owned());
    for folder in wanted {
        assert!(mounted.iter().any(|path| folder == Path::new(path)), "{} is not mounted", folder.display());
    }
    assert!(mounted.contains(&"/etc/nameward"));
    settings(&config, env(&one("kustomize/base/coordinator.yaml", "Deployment")).into_iter().collect());
}

#[test]
fn arguments_ports_and_names_are_the_programs() {
    let listen = Config::default().metrics.listen;
    for (file, kind, role) in [
        ("kustomize/base/agent.yaml", "DaemonSet", "agent"),
        ("kustomize/base/coordinator.yaml", "Deployment", "coordinator"),
    ] {
        let workload = one(file, kind);
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        let args: Vec<&str> = container["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert_eq!(args, ["run", "--role", role, "--config", "/etc/nameward/nameward.toml"]);
        assert_eq!(container["ports"][0]["containerPort"], listen.port());
        assert_eq!(container["ports"][0]["name"], "metrics");
        let image = container["image"].as_str().unwrap();
        assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image} is not this version");
    }
    let config = Config::default();
    let rights = std::fs::read_to_string(deploy().join("rbac/coordinator.yaml")).unwrap();
    for name in [names::POLICY, config.coordinator.lease_name.as_str()] {
        assert!(rights.contains(&format!("resourceNames: [{name}]")), "no right on {name}");
    }
}
