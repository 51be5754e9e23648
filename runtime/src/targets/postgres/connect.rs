//! Connections to a database that can be written to.
//!
//! The hosts are tried in their order, and each address of a name: the first on which Weir may log in and
//! write is used. After a failover that is another one than before, so nothing of it is remembered.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{CancelToken, Client, Config, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{self, Class, Failed};
use super::mark::{self, Position};
use super::{Options, tls};
use crate::targets::http;
use crate::targets::http::connect::addresses;
use crate::targets::{BoxFuture, Unusable};

/// The longest wait for one address.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// After this time without a byte the other side is asked whether it is still there, and then at this
/// interval. Firewalls forget connections that are silent for some minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long the request to cancel a statement may take.
const CANCEL_MAX: Duration = Duration::from_secs(3);
/// The setting by which a server notices during a statement that its client is gone (PostgreSQL 14).
const CHECK: &str = "SET LOCAL client_connection_check_interval = 5000";

/// Opens connections.
pub(super) struct Dialer {
    options: Options,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Reads who the server is and how far it has come.
    position: String,
}

/// A connection.
pub(super) struct Conn {
    pub(super) client: Client,
    /// When it was opened.
    pub(super) since: Instant,
    /// The round of the pool in which it was opened.
    pub(super) round: u64,
    /// Who the server was then; `None` if it does not say so.
    pub(super) position: Option<Position>,
    /// Whether the server can notice that its client is gone.
    checks: bool,
    peer: SocketAddr,
    host: String,
    task: JoinHandle<()>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Without this a connection with an open statement would live on until its end.
        self.task.abort();
    }
}

impl Dialer {
    /// Prepares connections without opening one.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(super) fn open(options: &Options) -> Result<Dialer, Unusable> {
        let server = &options.server;
        let tls = tls::open(options)?;
        let mut config = Config::new();
        config
            .user(&server.user)
            .dbname(&server.database)
            .application_name(&server.application)
            .ssl_mode(match tls {
                Some(_) => SslMode::Require,
                None => SslMode::Disable,
            });
        if let Some(password) = &server.password {
            config.password(&password.0);
        }
        Ok(Dialer {
            config,
            tls,
            position: mark::query(options),
            options: options.clone(),
        })
    }

    /// Connects to the first address that can be written to, within the timeout.
    ///
    /// # Errors
    /// Why there is no connection. Nothing was written.
    pub(super) fn connect(&self, round: u64) -> BoxFuture<'_, Result<Conn, Failed>> {
        let limit = self.options.timeout;
        Box::pin(async move {
            match timeout(limit, self.first(round)).await {
                Ok(connected) => connected,
                Err(_) => {
                    let hosts = self.options.server.hosts_text();
                    Err(trip(format!("no connection to {hosts} within {limit:?}")))
                }
            }
        })
    }

    async fn first(&self, round: u64) -> Result<Conn, Failed> {
        let mut worst: Option<Failed> = None;
        for (host, port) in &self.options.server.hosts {
            match self.host(host, *port, round).await {
                Ok(conn) => return Ok(conn),
                // What a server said counts for more than that another one does not answer, and that
                // one is read-only for less.
                Err(failed) => {
                    let rank = |failed: &Failed| match failed.class {
                        Class::Later => 2,
                        Class::ReadOnly => 0,
                        _ => 1,
                    };
                    let keeps = worst
                        .as_ref()
                        .is_some_and(|worst| rank(worst) >= rank(&failed));
                    if !keeps {
                        worst = Some(failed);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| trip("there is no host to connect to".to_owned())))
    }

    /// Connects to the first address of a host that can be written to.
    async fn host(&self, host: &str, port: u16, round: u64) -> Result<Conn, Failed> {
        let resolved = timeout(
            self.address_max(),
            addresses(host, port, self.options.egress),
        );
        let addresses = match resolved.await {
            Ok(found) => found.map_err(|error| trip(error.to_string()))?,
            Err(_) => return Err(trip(format!("{host} does not resolve in time"))),
        };
        let mut last = trip(format!("{host} has no address"));
        for address in addresses {
            let unreachable =
                |why: &dyn Display| trip(format!("no connection to {address}: {why}"));
            let connected = async {
                let stream = TcpStream::connect(address).await;
                let stream = stream.map_err(|error| unreachable(&error))?;
                self.log_in(stream, address, host, round).await
            };
            last = match timeout(self.address_max(), connected).await {
                Ok(Ok(conn)) => return Ok(conn),
                Ok(Err(failed)) => failed,
                Err(_) => unreachable(&"it does not answer"),
            };
        }
        Err(last)
    }

    /// The longest wait for one address: two thirds of the time, so that another can be tried.
    fn address_max(&self) -> Duration {
        CONNECT_MAX.min(self.options.timeout * 2 / 3)
    }

    async fn log_in(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        host: &str,
        round: u64,
    ) -> Result<Conn, Failed> {
        settle(&stream);
        let logged_in = match self.tls_for(host)? {
            None => self.raw(stream, NoTls).await,
            Some(tls) => self.raw(stream, tls).await,
        };
        let (client, task) = logged_in?;
        let mut conn = Conn {
            client,
            since: Instant::now(),
            round,
            position: None,
            checks: false,
            peer,
            host: host.to_owned(),
            task,
        };
        self.introduce(&mut conn).await?;
        Ok(conn)
    }

    async fn raw<T>(&self, stream: TcpStream, tls: T) -> Result<(Client, JoinHandle<()>), Failed>
    where
        T: TlsConnect<TcpStream>,
        Connection<TcpStream, T::Stream>: Future<Output = Result<(), tokio_postgres::Error>>,
        T::Stream: Send + 'static,
    {
        let connected = self.config.connect_raw(stream, tls).await;
        let (client, connection) = connected.map_err(|error| self.unconnected(&error))?;
        // How it ends is told to whoever waits for an answer.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok((client, task))
    }

    /// Finds out whether the server can be written to, what it can do, and how far it has come.
    async fn introduce(&self, conn: &mut Conn) -> Result<(), Failed> {
        let check = format!("BEGIN; {CHECK}");
        let writable = "SELECT NOT pg_catalog.pg_is_in_recovery() \
             AND pg_catalog.current_setting('transaction_read_only') = 'off'";
        // One after the other in one go.
        let (writable, position, checks, ended) = tokio::join!(
            biased;
            conn.client.query_typed(writable, &[]),
            self.position(&conn.client),
            conn.client.batch_execute(&check),
            conn.client.batch_execute("ROLLBACK"),
        );
        let writable = writable.map_err(|error| self.unconnected(&error))?;
        ended.map_err(|error| self.unconnected(&error))?;
        if !writable.first().is_some_and(|row| row.get(0)) {
            return Err(self.read_only(&conn.host));
        }
        conn.checks = checks.is_ok();
        conn.position = position;
        Ok(())
    }

    fn read_only(&self, host: &str) -> Failed {
        let reason = format!(
            "the server {host} cannot be written to: it is a standby, or default_transaction_read_only is on; name the primary, or all hosts"
        );
        Failed::new(Class::ReadOnly, reason)
    }

    /// Who the server is and how far it has come; `None` if it does not say so, which a plain role may
    /// ask PostgreSQL itself.
    pub(super) async fn position(&self, client: &Client) -> Option<Position> {
        let rows = client.query_typed(&self.position, &[]).await.ok()?;
        Position::parse(rows.first()?.get(0))
    }

    fn tls_for(
        &self,
        host: &str,
    ) -> Result<Option<<MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect>, Failed> {
        let tls = self.tls.clone().map(|mut tls| {
            MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, host)
                .map_err(|error| trip(format!("TLS: {error}")))
        });
        tls.transpose()
    }

    /// Why there is no connection.
    fn unconnected(&self, error: &tokio_postgres::Error) -> Failed {
        let Some(said) = error.as_db_error() else {
            let reason = format!(
                "no connection to the database: {error}: {}",
                http::innermost(error)
            );
            return trip(reason);
        };
        let described = error::described(said, &self.options);
        // Too many clients, no memory: there will be room again.
        if said.code().code().starts_with("53") {
            return Failed::new(Class::Later, described);
        }
        trip(match *said.code() {
            SqlState::PROTOCOL_VIOLATION => format!(
                "the server, or the pooler before it, does not understand the connection: {described}"
            ),
            _ => described,
        })
    }

    /// Asks the server to end the statement that a connection waits for.
    pub(super) async fn cancel(&self, conn: &Conn) {
        let token: CancelToken = conn.client.cancel_token();
        let asked = async {
            let stream = TcpStream::connect(conn.peer).await.ok()?;
            match self.tls_for(&conn.host).ok()? {
                None => token.cancel_query_raw(stream, NoTls).await.ok(),
                Some(tls) => token.cancel_query_raw(stream, tls).await.ok(),
            }
        };
        // If it fails, the statement ends by its own timeout.
        let _ = timeout(CANCEL_MAX, asked).await;
    }
}

impl Conn {
    /// The beginning of a transaction in which nothing takes longer than `most`.
    pub(super) fn begin(&self, most: Duration) -> String {
        let (statement, lock) = (statement_timeout(most), lock_timeout(most));
        let check = if self.checks { CHECK } else { "" };
        // What a role or a pooler has set must not change what a text means.
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; \
             SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; {check}",
            statement.as_millis(),
            lock.as_millis(),
            most.as_millis()
        )
    }
}

/// The longest that a server works at a statement: less than Weir waits for it, so that the server says
/// what became of it.
pub(super) fn statement_timeout(most: Duration) -> Duration {
    most * 4 / 5
}

/// The longest that a server waits for one lock. A row that somebody holds is left out after that.
pub(super) fn lock_timeout(most: Duration) -> Duration {
    (most / 6).min(Duration::from_secs(5))
}

fn trip(reason: String) -> Failed {
    Failed::new(Class::Table, reason)
}

/// Small requests leave at once, and a peer that is gone is noticed.
fn settle(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    // A system that cannot do it has its own way.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
}
