//! `examples/kubernetes`: a validator of Kubernetes' own schemas takes the resources, Weir takes the configuration in
//! them with the secrets in them, and what the README says of them is so.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::parts::part;

/// The first version with a `sleep` in `preStop` that needs no switch, and the newest that the validator knows.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

fn file() -> PathBuf {
    super::repository().join("examples/kubernetes/weir.yaml")
}

/// The resources, read by the Python that the validator runs with.
fn resources(validator: &Path) -> Vec<Value> {
    let python = validator.with_file_name("python");
    let read =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let done = Command::new(python)
        .args(["-c", read])
        .arg(file())
        .output()
        .expect("it runs");
    serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)))
}

#[test]
fn kubernetes_takes_the_example_and_weir_the_configuration_in_it() {
    let Some(validator) = part("kubernetes-validate", "examples/kubernetes") else {
        return;
    };
    for version in VERSIONS {
        let done = Command::new(&validator)
            .args(["--strict", "--kubernetes-version", version])
            .arg(file())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{version}: {said}");
        assert_eq!(said.matches(" passed ").count(), 4, "{version}: {said}");
    }
    let resources = resources(&validator);
    let of_kind = |kind: &str| {
        let mut found = resources.iter().filter(|one| one["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("no {kind}"))
    };
    let pod = &of_kind("StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // Where its volumes are mounted.
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = of_kind("ConfigMap")["data"]["weir.toml"]
        .as_str()
        .expect("a configuration")
        .to_owned();
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        assert!(mount["subPath"].is_null(), "it would never change: {mount}");
        let (name, path) = (&mount["name"], mount["mountPath"].as_str().expect("a path"));
        let place = folder.path().join(name.as_str().expect("a name"));
        std::fs::create_dir(&place).expect("a folder");
        config = config.replace(path, &place.to_string_lossy());
    }
    assert!(!config.contains("/etc/weir"), "a path that is not mounted");
    let secrets = of_kind("Secret")["stringData"]
        .as_object()
        .expect("secrets");
    for (name, secret) in secrets {
        let place = folder.path().join("secrets").join(name);
        std::fs::write(place, secret.as_str().expect("a text")).expect("written");
    }
    let written = folder.path().join("config/weir.toml");
    std::fs::write(&written, config).expect("written");
    let check = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "-c"])
        .arg(written)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(
        check.status.success() && said.starts_with("The configuration is valid"),
        "{said}"
    );

    // What ends a pod: the wait before it, and Weir's own 10 s, with room.
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    let wait = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    assert!(grace > wait.map(|wait| wait + 15), "{grace:?} {wait:?}");
    // Neither the store nor a target decides whether a pod is killed.
    let path = |probe: &str| container[probe]["httpGet"]["path"].clone();
    assert_eq!(
        (
            path("livenessProbe"),
            path("startupProbe"),
            path("readinessProbe")
        ),
        ("/healthz".into(), "/healthz".into(), "/readyz".into())
    );
}

#[test]
fn the_image_is_made_as_its_linter_wants_it() {
    let Some(linter) = part("hadolint", "Containerfile") else {
        return;
    };
    let done = Command::new(linter)
        .arg(super::repository().join("Containerfile"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success() && said.is_empty(), "{said}");
}
