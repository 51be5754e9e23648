//! The examples that `weir init` writes: those that need nothing but this program, and Python for the system
//! at their other end. Their files are those of the folder `examples`, without what is about the repository.

use std::path::PathBuf;

use crate::plugin::builtin;

/// An example.
pub(super) struct Example {
    /// The name of its folder.
    pub(super) name: &'static str,
    /// What it is, in a few words.
    pub(super) what: &'static str,
    /// What it shows, in a sentence that ends before the commands.
    pub(super) story: &'static str,
    /// Its files, by their paths.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The commands that keep running, and what each is.
    pub(super) start: [(&'static str, &'static str); 2],
    /// The commands that bring the first delivery.
    pub(super) send: &'static [&'static str],
    /// The builtin plugins that it uses.
    pub(super) plugins: &'static [&'static str],
}

impl Example {
    /// The component of a plugin that is not there, if there is one.
    pub(super) fn missing(&self) -> Option<PathBuf> {
        let components = self.plugins.iter().map(|name| builtin(name));
        components.into_iter().find(|path| !path.is_file())
    }
}

/// The text of a file of the examples.
macro_rules! text {
    ($example:literal, $path:literal) => {
        (
            $path,
            include_str!(concat!("../../../../examples/", $example, "/", $path)),
        )
    };
}

/// All of them.
pub(super) static EXAMPLES: [Example; 2] = [
    Example {
        name: "first-webhook",
        what: "two systems write a product, and a shop receives it; no plugin",
        story: "Two systems each write a part of one product, and a shop receives the whole. Each in a terminal of\nits own:",
        files: &[
            text!("first-webhook", "weir.toml"),
            text!("first-webhook", "receiver.py"),
            text!("first-webhook", "events/content.json"),
            text!("first-webhook", "events/price.json"),
            text!("first-webhook", "events/prices.ndjson"),
        ],
        start: [
            (
                "python3 receiver.py",
                "the shop: it prints what it receives",
            ),
            ("weir run", "Weir"),
        ],
        send: &[
            "weir send pim events/content.json",
            "weir send erp events/price.json",
            "weir status",
        ],
        plugins: &[],
    },
    Example {
        name: "no-code",
        what: "webhooks of a shop become documents of a search engine, by jq programs",
        story: "Webhooks of a shop become documents of a search engine, by two jq programs. Each in a terminal of\nits own:",
        files: &[
            text!("no-code", "weir.toml"),
            text!("no-code", "map.jq"),
            text!("no-code", "document.jq"),
            text!("no-code", "engine.py"),
            text!("no-code", "events/lamp.json"),
            text!("no-code", "events/draft.json"),
            text!("no-code", "events/deleted.json"),
            text!("no-code", "events/broken.json"),
        ],
        start: [
            (
                "python3 engine.py",
                "the search engine: it prints its documents",
            ),
            ("weir run", "Weir"),
        ],
        send: &[
            "export SHOP_SECRET=an-example-secret",
            "weir send shop events/lamp.json --secret env:SHOP_SECRET --sign shopify --header \"X-Shopify-Topic: products/update\"",
            "weir status",
        ],
        plugins: &["jq-filter", "jq-mapper", "jq-renderer"],
    },
];
