//! Tests of the difference between two plans, and of how a plan is shown.

use super::*;
use crate::plan::difference::{Names, Renamed};

#[test]
fn a_difference_says_what_to_do_and_no_more() {
    let (_folder, old, _) = example();
    assert!(difference(&old, &old.clone()).is_empty());
    let mut new = old.clone();
    new.places.clear();
    assert!(
        difference(&old, &new).is_empty(),
        "a line that moved is no difference"
    );
    new.server.listen.set_port(1);
    new.store_path = "elsewhere".into();
    new.plugins
        .get_mut("in-stock")
        .expect("there")
        .limits
        .log_bytes = 1;
    new.targets.get_mut("shop.fr").expect("there").concurrency = 1;
    let mut moved = new.channels.remove("storefront.de").expect("there");
    moved.options.was = Some("storefront.de".into());
    new.channels.insert("web.de".into(), moved.clone());
    moved.options.was = None;
    new.channels.insert("more".into(), moved);
    new.sources.remove("oms");
    let found = difference(&old, &new);
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).into())
            .collect::<Vec<Arc<str>>>()
    };
    assert_eq!(
        found.channels,
        Names {
            added: names(&["more"]),
            changed: names(&["storefront.fr"]),
            removed: vec![]
        }
    );
    assert_eq!(
        found.renamed,
        [Renamed {
            from: "storefront.de".into(),
            to: "web.de".into()
        }]
    );
    assert_eq!(
        found.sources,
        Names {
            removed: names(&["oms"]),
            ..Names::default()
        }
    );
    assert_eq!(
        (&found.plugins.changed, &found.targets.changed),
        (&names(&["in-stock"]), &names(&["shop.fr"]))
    );
    assert_eq!(found.needs_restart.len(), 2, "{:?}", found.needs_restart);
}

/// A channel's `batch` used to be a property of the target that it shares with others: they sent
/// arrays too, and the target was opened again, with a new breaker.
#[test]
fn a_batch_is_the_channels_own_and_leaves_its_target_as_it_is() {
    let plan = |batch: &str| {
        let text = catalog(&format!(
            r#"
[targets.shop]
kind = "webhook"
url = "http://shop"
[channels.a]
entity = "product"
facets = ["content"]
target = "shop"
[channels.b]
entity = "product"
facets = ["content"]
target = "shop"
{batch}
"#
        ));
        plan_of(&[("weir.toml", &text)], &["weir.toml"])
    };
    let (before, after) = (plan(""), plan("batch = 20"));
    assert_eq!(
        ["a", "b"].map(|name| after.channels[name].options.batch),
        [1, 20]
    );
    assert_eq!(before.targets, after.targets);
    let found = difference(&before, &after);
    assert_eq!(found.targets, Names::default());
    assert_eq!(found.channels.changed, ["b".into()]);
}

/// Everything specific to a kind is in its own files. This kind is keyed and takes batches, unlike
/// any other.
#[test]
fn another_kind_of_target_is_read_and_shown_by_itself() {
    let plan = |batch_max: u32| {
        let text = catalog(&format!(
            r#"
[targets.index]
kind = "scripted"
keyed = true
batch_max = {batch_max}
rate = "512KiB/s"
cost = "bytes"
[channels.a]
entity = "product"
facets = ["content"]
target = "index"
batch = 20
"#
        ));
        let folder = Folder::of(&[("weir.toml", &text)]);
        folder
            .read(&["weir.toml"], true)
            .map(|(plan, _)| plan)
            .map_err(|complaints| folder.shown(&complaints))
    };
    let read = plan(50).expect("it takes batches");
    assert_eq!(
        redacted(&read)["targets"]["index"],
        json!({"kind": "scripted", "pace": null, "keyed": true, "batch_max": 50, "concurrency": 8, "rate": "512KiB/s", "cost": "bytes"})
    );
    let complaint = plan(1).expect_err("it takes none");
    assert!(
        complaint.contains("channels.a.batch: it takes one entity a request; leave batch out"),
        "{complaint}"
    );
}

#[test]
fn a_start_is_a_difference_from_the_empty_plan() {
    let (_folder, plan, _) = example();
    let found = difference(&plan.emptied(), &plan);
    assert_eq!(
        (
            found.sources.added.len(),
            found.targets.added.len(),
            found.plugins.added.len()
        ),
        (3, 2, 4)
    );
    assert_eq!(
        (found.channels.added.len(), found.renamed.len()),
        (0, 2),
        "both channels were another before"
    );
    assert!(found.needs_restart.is_empty());
}

#[test]
fn a_plan_is_shown_as_it_would_be_written() {
    let (folder, plan, _) = example();
    let shown =
        format!("{:#}\n", redacted(&plan)).replace(&format!("{}/", folder.0.path().display()), "");
    expect![[r#"
        {
          "channels": {
            "storefront.de": {
              "batch": 1,
              "batch_bytes": "1MiB",
              "debounce": null,
              "debounce_max": null,
              "deliver": true,
              "drift": null,
              "entity": "product",
              "facets": [
                "content",
                "price.de-*",
                "stock.*"
              ],
              "freshness": "1m",
              "hours": null,
              "needs": [
                "content",
                "price.de-*"
              ],
              "plugins": [
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "theme": "bold"
                    },
                    "locale": "de_DE",
                    "site": "de",
                    "url": "http://shop-de:8080"
                  },
                  "use": "in-stock"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "columns": 3,
                      "theme": "bold"
                    },
                    "locale": "de_DE",
                    "site": "de",
                    "url": "http://shop-de:8080"
                  },
                  "use": "storefront-page"
                }
              ],
              "retry": {
                "attempts": 12,
                "cap": "10m",
                "factor": 2.0,
                "first": "1s",
                "refused": "1h"
              },
              "suppress": true,
              "target": "shop.de",
              "was": "web.de",
              "withdraw_max": {
                "min": 100,
                "per": "1h",
                "share": "2%"
              }
            },
            "storefront.fr": {
              "batch": 1,
              "batch_bytes": "1MiB",
              "debounce": null,
              "debounce_max": null,
              "deliver": true,
              "drift": null,
              "entity": "product",
              "facets": [
                "content",
                "price.fr-*",
                "stock.*"
              ],
              "freshness": "1m",
              "hours": null,
              "needs": [
                "content",
                "price.fr-*"
              ],
              "plugins": [
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "theme": "bold"
                    },
                    "locale": "fr_FR",
                    "site": "fr",
                    "url": "http://shop-fr:8080"
                  },
                  "use": "in-stock"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "columns": 3,
                      "theme": "bold"
                    },
                    "locale": "fr_FR",
                    "site": "fr",
                    "url": "http://shop-fr:8080"
                  },
                  "use": "storefront-page"
                }
              ],
              "retry": {
                "attempts": 12,
                "cap": "10m",
                "factor": 2.0,
                "first": "1s",
                "refused": "1h"
              },
              "suppress": true,
              "target": "shop.fr",
              "was": "web.fr",
              "withdraw_max": {
                "min": 100,
                "per": "1h",
                "share": "2%"
              }
            }
          },
          "config_version": 1,
          "entities": {
            "product": {
              "entities_max": 5000000,
              "facet_max": "256KiB",
              "facets": {
                "content": {
                  "lane": "normal",
                  "owner": "pim"
                },
                "price.*": {
                  "lane": "urgent",
                  "owner": "erp"
                },
                "stock.*": {
                  "lane": "urgent",
                  "owner": "oms"
                }
              },
              "kind": "state"
            }
          },
          "files": [
            "weir.toml"
          ],
          "lanes": {
            "bulk": 1,
            "normal": 4,
            "urgent": 16
          },
          "notify": [],
          "plugins": {
            "erp": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/erp-product/dist/erp_product.wasm",
              "settings": {
                "currency": "EUR"
              },
              "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
              "strict": false
            },
            "erp-noise": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/noise.wasm",
              "settings": {},
              "sha256": null,
              "strict": false
            },
            "in-stock": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/in-stock.wasm",
              "settings": {},
              "sha256": null,
              "strict": false
            },
            "storefront-page": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/page.wasm",
              "settings": {
                "currency": "USD",
                "layout": {
                  "columns": 3,
                  "theme": "plain"
                }
              },
              "sha256": null,
              "strict": false
            }
          },
          "server": {
            "admin_listen": "127.0.0.1:7701",
            "bodies": "32MiB",
            "listen": "127.0.0.1:7700",
            "public_url": null,
            "reload": "watch",
            "tls": null,
            "trusted_proxies": []
          },
          "sources": {
            "erp-conditions": {
              "body_max": "8MiB",
              "csv": null,
              "encoding": null,
              "form": "payload",
              "handshake": null,
              "headers": [
                "x-sap-*"
              ],
              "id": {
                "header": "webhook-id"
              },
              "owner": "erp",
              "plugins": [
                {
                  "settings": {},
                  "use": "erp-noise"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "kind": "COND_A"
                  },
                  "use": "erp"
                }
              ],
              "quiet": "15m",
              "reply": {
                "body": null,
                "status": 202,
                "type": null
              },
              "split": "xml:IDOC",
              "unreadable": "reject",
              "verify": {
                "algorithm": "sha256",
                "encoding": "base64",
                "header": "webhook-signature",
                "kind": "standard-webhooks",
                "prefix": "v1,",
                "secrets": [
                  "[secret]"
                ],
                "separator": " ",
                "template": "{header.webhook-id}.{timestamp}.{body}",
                "timestamp": {
                  "header": "webhook-timestamp",
                  "prefix": "",
                  "tolerance": "5m",
                  "unit": "s"
                }
              }
            },
            "oms": {
              "body_max": "8MiB",
              "csv": null,
              "encoding": null,
              "form": "payload",
              "handshake": null,
              "headers": [],
              "id": null,
              "owner": "oms",
              "plugins": [],
              "quiet": null,
              "reply": {
                "body": null,
                "status": 202,
                "type": null
              },
              "split": null,
              "unreadable": "reject",
              "verify": {
                "kind": "none"
              }
            },
            "pim": {
              "body_max": "8MiB",
              "csv": null,
              "encoding": null,
              "form": "payload",
              "handshake": null,
              "headers": [],
              "id": null,
              "owner": "pim",
              "plugins": [],
              "quiet": null,
              "reply": {
                "body": null,
                "status": 202,
                "type": null
              },
              "split": null,
              "unreadable": "reject",
              "verify": {
                "kind": "none"
              }
            }
          },
          "store": {
            "forget": "30d",
            "path": "data",
            "sequence_min": 0
          },
          "targets": {
            "shop.de": {
              "accepted_only": false,
              "answer": [],
              "answers": null,
              "auth": null,
              "compress": "none",
              "concurrency": 8,
              "content_type": null,
              "cost": "requests",
              "delete": "POST",
              "delete_body": null,
              "egress": "private",
              "form": "envelope",
              "format": "array",
              "get": null,
              "headers": {},
              "items": null,
              "kind": "webhook",
              "method": "POST",
              "pace": null,
              "proxy": null,
              "rate": "500/s",
              "sign": [
                "[secret]"
              ],
              "timeout": "15s",
              "tls": {
                "ca": null,
                "cert": null,
                "key": null
              },
              "url": "http://shop-de:8080/weir",
              "wrap": null
            },
            "shop.fr": {
              "accepted_only": false,
              "answer": [],
              "answers": null,
              "auth": null,
              "compress": "none",
              "concurrency": 8,
              "content_type": null,
              "cost": "requests",
              "delete": "POST",
              "delete_body": null,
              "egress": "private",
              "form": "envelope",
              "format": "array",
              "get": null,
              "headers": {},
              "items": null,
              "kind": "webhook",
              "method": "POST",
              "pace": null,
              "proxy": null,
              "rate": "500/s",
              "sign": [
                "[secret]"
              ],
              "timeout": "15s",
              "tls": {
                "ca": null,
                "cert": null,
                "key": null
              },
              "url": "http://shop-fr:8080/weir",
              "wrap": null
            }
          },
          "telemetry": null,
          "tokens": {
            "ops": {
              "role": "operate",
              "secret": "[secret]"
            }
          }
        }
    "#]]
    .assert_eq(&shown);
    for secret in ["operator-token", "a2tra2", "kkkk"] {
        assert!(
            !shown.contains(secret) && !format!("{plan:?}").contains(secret),
            "{secret}"
        );
    }
}
