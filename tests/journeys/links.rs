//! Files that are reached through links, as a mounted ConfigMap, a mounted Secret and a release are:
//! the file stays as it is, and a link on the way to it is exchanged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use crate::support::stage::CATALOG;
use crate::support::{Stage, change, eventually, guests};

/// A folder in which Kubernetes mounts files: each is a link through `..data`, which leads to the
/// current version of all of them.
struct Mount {
    folder: PathBuf,
    version: u32,
}

impl Mount {
    fn new(folder: PathBuf) -> Mount {
        fs::create_dir_all(&folder).expect("a folder");
        Mount { folder, version: 0 }
    }

    /// Exchanges all files at once and removes those of the version before.
    fn holds(&mut self, files: &[(&str, &[u8])]) {
        self.version += 1;
        let inside = |name: &str| self.folder.join(name);
        let (new, old) = (
            format!("..v{}", self.version),
            format!("..v{}", self.version - 1),
        );
        fs::create_dir(inside(&new)).expect("a folder");
        for (name, bytes) in files {
            fs::write(inside(&new).join(name), bytes).expect("written");
            // The link is there since the first version.
            let _ = symlink(format!("..data/{name}"), inside(name));
        }
        symlink(&new, inside("..data_tmp")).expect("a link");
        fs::rename(inside("..data_tmp"), inside("..data")).expect("renamed");
        let _ = fs::remove_dir_all(inside(&old));
    }
}

/// The status of a request with this token.
fn status(stage: &Stage, token: &str) -> u16 {
    let headers = [("authorization", &*format!("Bearer {token}"))];
    stage.weir().ask("GET", "/v1/sources", &headers, b"").status
}

fn watching(stage: &Stage, more: &str) -> String {
    format!(
        "config_version = 1\n[server]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"data\"\n{}{more}",
        CATALOG.replace("{shop}", &stage.shop.url())
    )
}

// An update of a ConfigMap was not noticed at all, and a token that had been revoked by an update of its
// Secret was accepted until the next restart.
#[test]
fn an_update_of_a_mounted_configuration_and_of_a_mounted_secret_is_noticed() {
    let mut stage = Stage::closed("");
    let mut config = Mount::new(stage.folder().join("config"));
    let mut secret = Mount::new(stage.folder().join("secret"));
    let tokens = "[tokens.ops]\nsecret = { file = \"secret/token\" }\nroles = [\"read\"]\n";
    config.holds(&[("weir.toml", watching(&stage, tokens).as_bytes())]);
    secret.holds(&[("token", b"the first of the tokens\n")]);
    fs::remove_file(stage.folder().join("weir.toml")).expect("removed");
    symlink("config/weir.toml", stage.folder().join("weir.toml")).expect("a link");
    stage.start();
    assert_eq!(status(&stage, "the first of the tokens"), 200);

    for token in ["the second of the tokens", "the third of the tokens"] {
        secret.holds(&[("token", token.as_bytes())]);
        eventually("the new token is in use", || {
            (status(&stage, token) == 200).then_some(())
        });
        assert_eq!(status(&stage, "the first of the tokens"), 401);
    }
    for source in ["one", "two"] {
        let more = format!("{tokens}[sources.{source}]\nowner = \"pim\"\n");
        config.holds(&[("weir.toml", watching(&stage, &more).as_bytes())]);
        let one = change("lamp", "content", json!(source)).to_string();
        eventually("the new source is there", || {
            (stage.send(source, &[], one.as_bytes()).status == 202).then_some(())
        });
    }
}

// A release is a folder that a link leads to, or that is moved to its place.
#[test]
fn a_component_behind_a_link_or_in_an_exchanged_folder_is_noticed() {
    let mut stage = Stage::closed("");
    let at = |name: &str| stage.folder().join(name);
    for version in 1..=4 {
        fs::create_dir(at(&format!("v{version}"))).expect("a folder");
        let page = guests::versioned::renderer(version);
        fs::write(at(&format!("v{version}/page.wasm")), page).expect("written");
    }
    symlink("v1", at("current")).expect("a link");
    let plugin = "plugins = [\"page\"]\n[plugins.page]\npath = \"current/page.wasm\"\n";
    fs::write(at("weir.toml"), watching(&stage, plugin)).expect("written");
    stage.start();
    let lamp = change("lamp", "content", json!(1)).to_string();
    assert_eq!(stage.send("pim", &[], lamp.as_bytes()).status, 202);
    stage.shop_holds(json!({"lamp": {"version": 1}}));

    let at = |name: &str| stage.folder().join(name);
    symlink("v2", at("next")).expect("a link");
    fs::rename(at("next"), at("current")).expect("renamed");
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    // A folder in place of the link, and then another one in its place.
    for version in [3, 4] {
        let _ = fs::rename(at("current"), at(&format!("old{version}")));
        fs::rename(at(&format!("v{version}")), at("current")).expect("renamed");
        stage.shop_holds(json!({"lamp": {"version": version}}));
    }
}
