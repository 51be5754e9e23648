//! The section `[server]`: where Weir listens, with which certificate, and which proxies stand before it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::secrets::SECRET;
use super::targets::http::PEM_BYTES_MAX;
use super::{Place, Server};
use crate::config::cursor::{Cursor, Field, Found};
use crate::config::scalar::size_text;
use crate::happenings::BODIES_BYTES;
use crate::model::Timestamp;
use crate::signature::Secret;
use crate::targets::http::certificates;

/// The most memory for bodies that were delivered: it is there for people who look at one of them.
const BODIES_BYTES_MAX: u64 = 1 << 30;

/// A certificate that ends within this time should have been renewed.
const ENDS_SOON: Duration = Duration::from_secs(7 * 86_400);

/// The listeners, with their places for later checks.
pub(super) struct Listeners {
    pub(super) value: Server,
    pub(super) places: ServerPlaces,
}

/// Where the listeners are set; if they are not set, where the file begins.
pub(super) struct ServerPlaces {
    pub(super) listen: Place,
    pub(super) admin_listen: Option<Place>,
}

/// How clients reach the listeners. It holds for what comes after a reload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Front {
    /// TLS on `listen`, and on `admin_listen` unless that is on loopback.
    pub tls: Option<Tls>,
    /// The networks of the proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<IpNet>,
    /// The origin under which others reach Weir, such as `https://weir.example`.
    pub public_origin: Option<String>,
}

impl Front {
    /// Whether a proxy lets others in, so that a listener on loopback is not for this machine alone.
    pub fn is_behind_proxy(&self) -> bool {
        !self.trusted_proxies.is_empty() || self.public_origin.is_some()
    }

    /// Whether a listener that has the admin routes alone speaks TLS where there is a certificate: not on loopback. A
    /// certificate is seldom that of `localhost`, and nobody listens in between.
    pub fn covers_admin(admin: SocketAddr) -> bool {
        !admin.ip().is_loopback()
    }

    /// Whether this address is that of a proxy that is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// The certificate of the listeners and its key, which fit each other.
#[derive(Clone)]
pub struct Tls {
    cert: Vec<u8>,
    /// When the certificate ends.
    ends: Option<Timestamp>,
    /// `None` if the configuration was read without its secrets.
    key: Option<(Secret, Arc<ServerConfig>)>,
}

impl Tls {
    /// What a handshake needs; `None` if the configuration was read without its secrets.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        self.key.as_ref().map(|(_, config)| config.clone())
    }

    /// When the certificate ends, the first of its chain; `None` if it does not say so in a form that is understood.
    pub fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    fn new(cert: Vec<u8>, key: Found) -> Result<Tls, String> {
        let chain = certificates(&cert, "cert").map_err(|unusable| unusable.to_string())?;
        let ends = Certificate::from_der(&chain[0]).ok().map(|leaf| {
            let ends = leaf.tbs_certificate.validity.not_after.to_unix_duration();
            Timestamp(ends.as_millis().try_into().unwrap_or(u64::MAX))
        });
        let key = match key {
            Found::LeftOut => None,
            Found::Secret(bytes) => {
                let key = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| format!("key is not a private key in PEM: {error}"))?;
                Some((Secret(bytes), Arc::new(config(chain, key)?)))
            }
        };
        Ok(Tls { cert, ends, key })
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let made = builder
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(chain, key));
    let mut made = made.map_err(|error| format!("cert and key do not fit: {error}"))?;
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(made)
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        let secret = |tls: &Tls| tls.key.as_ref().map(|(secret, _)| secret.clone());
        self.cert == other.cert && secret(self) == secret(other)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[certificates]")
    }
}

pub(super) fn server(root: &mut Cursor<'_>) -> Listeners {
    let mut listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);
    let (mut admin_listen, mut watch) = (None, true);
    let mut bodies_bytes = BODIES_BYTES;
    let mut front = Front::default();
    let mut places = ServerPlaces {
        listen: root.place().clone(),
        admin_listen: None,
    };
    if let Some(section) = root.take("server") {
        places.listen = section.place().clone();
        section.table(|table| {
            if let Some(field) = table.take("listen") {
                places.listen = field.place().clone();
                listen = address(&field).unwrap_or(listen);
            }
            if let Some(field) = table.take("admin_listen") {
                places.admin_listen = Some(field.place().clone());
                admin_listen = address(&field);
                if admin_listen == Some(listen) && listen.port() != 0 {
                    field.complain(
                        "this is the same address as listen",
                        "leave it out, and one listener serves both".to_owned(),
                    );
                }
            }
            if let Some(field) = table.take("reload") {
                watch = field
                    .one_of(&[("watch", true), ("signal", false)])
                    .unwrap_or(true);
            }
            if let Some(field) = table.take("bodies") {
                bodies_bytes = field.size(0..=BODIES_BYTES_MAX).unwrap_or(bodies_bytes);
            }
            front = Front {
                tls: table.take("tls").and_then(|field| tls(&field)),
                trusted_proxies: table
                    .take("trusted_proxies")
                    .map_or_else(Vec::new, |field| field.list(|field| network(&field))),
                public_origin: table
                    .take("public_url")
                    .and_then(|field| public_origin(&field)),
            };
        });
    }
    Listeners {
        value: Server {
            listen,
            admin_listen,
            watch,
            bodies_bytes,
            front: Arc::new(front),
        },
        places,
    }
}

/// Shows the section with its effective values.
pub(super) fn shown(server: &Server) -> Value {
    let front = &server.front;
    json!({
        "listen": server.listen.to_string(),
        "admin_listen": server.admin_listen.map(|address| address.to_string()),
        "reload": if server.watch { "watch" } else { "signal" },
        "bodies": size_text(server.bodies_bytes),
        "tls": front.tls.as_ref().map(|_| json!({ "cert": "[certificates]", "key": SECRET })),
        "trusted_proxies": front.trusted_proxies.iter().map(IpNet::to_string).collect::<Vec<_>>(),
        "public_url": front.public_origin,
    })
}

fn address(field: &Field<'_>) -> Option<SocketAddr> {
    let help = "write an address and a port, such as \"127.0.0.1:7700\", \"0.0.0.0:7700\" or \"[::1]:7700\"";
    field.parsed("an address to listen on", help, |text| text.parse().ok())
}

/// Reads a certificate and its key. Both files are watched like all that a configuration names, so what is
/// renewed on disk is used from the next connection on.
fn tls(field: &Field<'_>) -> Option<Tls> {
    let help = "write cert = \"server.pem\", key = { file = \"server.key\" }";
    field.table(|table| {
        let cert = table.require("cert", help);
        let key = table.require("key", help);
        let cert = cert.and_then(|field| field.file_content(PEM_BYTES_MAX));
        let key = key.and_then(|field| field.secret());
        let (cert, key) = cert.zip(key)?;
        match Tls::new(cert, key) {
            Ok(tls) => {
                warn_of_end(field, &tls);
                Some(tls)
            }
            Err(why) => {
                let help = "both in PEM: first the certificate of this machine, then those that vouch for it";
                table.complain(format!("the certificate cannot be used: {why}"), help.to_owned());
                None
            }
        }
    })?
}

/// Warns of a certificate that clients do not take any more, or soon will not.
fn warn_of_end(field: &Field<'_>, tls: &Tls) {
    let now = jiff::Timestamp::now();
    let ends = tls
        .ends
        .and_then(|ends| jiff::Timestamp::from_millisecond(ends.0.try_into().ok()?).ok());
    let Some(ends) = ends.filter(|ends| *ends <= now + ENDS_SOON) else {
        return;
    };
    let what = match ends <= now {
        true => format!("the certificate ended at {ends}, and clients refuse it"),
        false => format!("the certificate ends at {ends}"),
    };
    let help = "renew it; Weir uses the new one as soon as both files are there";
    field.warn(what, help.to_owned());
}

/// Reads a network, or a single address.
fn network(field: &Field<'_>) -> Option<IpNet> {
    let help = "write the networks of your proxies, such as \"10.0.0.0/8\" or \"127.0.0.1\"";
    let read = |text: &str| {
        let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(one)
    };
    let network = field.parsed("a network", help, read)?;
    if network.prefix_len() == 0 {
        field.complain(
            "this trusts every address, so anyone could say who they are",
            help.to_owned(),
        );
        return None;
    }
    Some(network)
}

/// Reads the URL under which others reach Weir. Its routes are at its root.
fn public_origin(field: &Field<'_>) -> Option<String> {
    let help = "write scheme and host, such as \"https://weir.example\"";
    field.parsed("the address under which others reach Weir", help, |text| {
        let url = url::Url::parse(text).ok()?;
        let is_http = matches!(url.scheme(), "http" | "https");
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        (is_http && is_bare && is_anonymous && url.has_host())
            .then(|| url.origin().ascii_serialization())
    })
}
