//! The demo's surroundings: the repository with its example and plugins, the configuration of the
//! demo's differences from the example, and free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::facts::SITES;
use crate::author::toolchain;

/// The demo's preferred port, which is Weir's default.
const PORT: u16 = 7700;
/// The plugins that the example uses.
const PLUGINS: [&str; 7] = [
    "erp-noise",
    "erp-product",
    "pim-product",
    "oms-stock",
    "in-stock",
    "storefront-page",
    "search-document",
];

/// The folder with the example and its plugins: the repository that contains the current folder, what is installed
/// with this program, or the repository that it was built in.
pub(super) fn repository() -> Result<PathBuf, String> {
    let here = std::env::current_dir().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let around = here
        .ancestors()
        .map(Path::to_owned)
        .chain(installed(&program))
        .chain(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .ancestors()
                .map(Path::to_owned),
        );
    let found = around
        .into_iter()
        .find(|folder| configuration(folder).is_file() && folder.join("plugins").is_dir());
    found.ok_or_else(|| {
        "the demo needs Weir's example and plugins, which are not installed beside this program; run it in a folder of a \
         clone of the repository"
            .to_owned()
    })
}

/// What a package installs beside a program: for `/usr/bin/weir` that is `/usr/share/weir`.
fn installed(program: &Path) -> Option<PathBuf> {
    Some(program.parent()?.parent()?.join("share/weir"))
}

/// The example's configuration.
pub(super) fn configuration(repository: &Path) -> PathBuf {
    repository.join("examples/product-catalog/weir.toml")
}

/// Builds the plugins whose component is missing or older than its source, if that is there; `say` is called
/// before each step.
pub(super) fn build(repository: &Path, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    for name in PLUGINS {
        let folder = repository.join("plugins").join(name);
        let component = folder
            .join("dist")
            .join(format!("{}.wasm", name.replace('-', "_")));
        let own = ["src", "cases", "Cargo.toml"].map(|part| folder.join(part));
        let shared = ["plugins/weir-plugin", "wit", "Cargo.lock"].map(|part| repository.join(part));
        let sources = own.iter().chain(&shared);
        let newest = sources.filter_map(|path| newest(path)).max();
        if changed(&component).is_some_and(|built| newest.is_none_or(|newest| newest <= built)) {
            continue;
        }
        let built = toolchain::build(&folder, say).map_err(|error| error.to_string())?;
        // An unchanged component is not written again, so its time is set here; otherwise it would
        // be built every time.
        let touched = std::fs::File::options()
            .write(true)
            .open(&built.component)
            .and_then(|file| file.set_modified(SystemTime::now()));
        touched.map_err(|error| format!("{}: {error}", built.component.display()))?;
    }
    Ok(())
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

/// Modification time of a file, or of the newest file in a folder.
fn newest(path: &Path) -> Option<SystemTime> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| newest(&entry.path()))
            .max(),
        Err(_) => changed(path),
    }
}

/// Weir's default port if it is free, otherwise any free port.
pub(super) fn address() -> std::io::Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr(),
    }
}

/// The demo's differences from the example, as a second configuration file, whose keys override the
/// first.
pub(super) fn differences(listen: SocketAddr, store: &Path, shops: &str) -> String {
    let mut text = format!(
        "[server]\nlisten = \"{listen}\"\nreload = \"signal\"\n[store]\npath = {}\n",
        quoted(&store.display().to_string())
    );
    for (site, _) in SITES {
        text.push_str(&format!("[each.site.{site}]\nurl = \"{shops}/{site}\"\n"));
    }
    text.push_str(&format!(
        "[channels.search]\nbatch = 50\ntarget = {{ kind = \"webhook\", url = \"{shops}/search\" }}\n"
    ));
    // In the demo products sell out and come back all the time, far more often than in a real shop.
    text.push_str(
        "[channels.storefront]\nwithdraw_max = { share = \"100%\", per = \"1m\", min = 1000000 }\n",
    );
    text.push_str(
        "[channels.search.withdraw_max]\nshare = \"100%\"\nper = \"1m\"\nmin = 1000000\n",
    );
    text
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_without_their_source_are_taken_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in PLUGINS {
            let component = format!("plugins/{name}/dist/{}.wasm", name.replace('-', "_"));
            let component = folder.path().join(component);
            std::fs::create_dir_all(component.parent().expect("a folder")).expect("made");
            std::fs::write(component, "").expect("written");
        }
        build(folder.path(), &mut |step| {
            panic!("nothing is to be done: {step}")
        })
        .expect("fine");
        let program = folder.path().join("bin/weir");
        assert_eq!(installed(&program), Some(folder.path().join("share/weir")));
        assert_eq!(installed(Path::new("weir")), None);
    }

    #[test]
    fn the_demo_is_the_example_with_another_place_and_nothing_else_to_complain_of() {
        // A copy with empty files as components, so that the real ones need not be built.
        let repository = repository().expect("the tests run in the repository");
        let folder = tempfile::tempdir().expect("a folder");
        let copy = configuration(folder.path());
        let text = std::fs::read_to_string(configuration(&repository)).expect("the example");
        std::fs::create_dir_all(copy.parent().expect("it is in a folder")).expect("a folder");
        std::fs::write(&copy, &text).expect("a file");
        for line in text.lines().filter(|line| line.contains(".wasm\"")) {
            let path = copy.with_file_name(
                line.split('"')
                    .find(|part| part.ends_with(".wasm"))
                    .expect("a path"),
            );
            std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        let other = folder.path().join("demo.toml");
        let differences = differences(
            ([127, 0, 0, 1], 7799).into(),
            &folder.path().join("a \"b\""),
            "http://127.0.0.1:9999",
        );
        std::fs::write(&other, differences).expect("a file");
        let (plan, warnings) =
            crate::app::read_plan(&[copy, other]).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        // Its search engine is the demo's recorder, so the channel has a target of its own.
        let warned: Vec<&str> = warnings.iter().map(|warning| &*warning.path).collect();
        assert_eq!(warned, ["targets.engine"], "{warnings:?}");
        assert_eq!(
            (plan.server.listen.port(), plan.store_path),
            (7799, folder.path().join("a \"b\""))
        );
        assert_eq!(
            plan.channels.keys().map(|name| &**name).collect::<Vec<_>>(),
            [
                "google",
                "search",
                "storefront.at",
                "storefront.de",
                "storefront.fr"
            ]
        );
    }
}
