//! A PostgreSQL of its own for a test: on a free port of loopback, in a temporary folder, gone at the end.
//!
//! `initdb` runs once on a machine; each server starts with a copy of what it made. PostgreSQL does not run
//! as root, so a test that does starts it as another user. A shell between them ends the server when the
//! test ends in whatever way, because it notices that its input is closed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::parts::part;

/// The role that Weir logs in as, its password, and its database.
pub const ROLE: &str = "weir";
pub const PASSWORD: &str = "weir-password";
pub const DATABASE: &str = "shop";
/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(120);
/// The users that a test which runs as root may start it as.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// `postgres` may do everything without a password, others need theirs.
const HBA: &str = "host all postgres 127.0.0.1/32 trust\n\
     host replication all 127.0.0.1/32 trust\n\
     host all all 127.0.0.1/32 scram-sha-256\n";
/// Ends the program by a signal when the input ends, and removes a folder if it is given.
const SHELL: &str = r#"signal=$1 folder=$2; shift 2; "$@" & child=$!
read -r _; kill -$signal $child; wait $child; [ -z "$folder" ] || rm -rf "$folder""#;
/// The signals that end them at once.
const POSTGRES_ENDS: &str = "QUIT";
const PGBOUNCER_ENDS: &str = "TERM";

/// A running server. It is killed when it is dropped.
pub struct Postgres {
    shell: Option<Child>,
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
    // Dropped last.
    _folder: Option<tempfile::TempDir>,
}

/// A program as the user that may run it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user() {
        command.uid(user).gid(group);
    }
    command
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

/// The user and the group to run as; `None` if that is the test's own.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = USERS.iter().find_map(|user| {
        let line = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(user))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    Some(found.expect("a user that is not root"))
}

fn run(mut command: Command) -> Output {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Gives a file or a folder to the user that the server runs as.
pub fn own(folder: &Path) {
    if let Some((user, group)) = user() {
        chown(folder, Some(user), Some(group)).expect("another owner");
    }
}

/// A folder as `initdb` and a few statements leave it. It stays for the next test.
fn template(initdb: &Path, postgres: &Path) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        // Another version cannot read it.
        let mut asked = command(postgres);
        asked.arg("--version");
        let version = String::from_utf8_lossy(&run(asked).stdout).into_owned();
        let version: String = version.chars().filter(char::is_ascii_digit).collect();
        let place = std::env::temp_dir().join(format!(
            "weir-test-postgres-{}-{version}",
            rustix::process::geteuid().as_raw()
        ));
        if place.join("made").exists() {
            return place;
        }
        let folder = tempfile::tempdir().expect("a folder");
        own(folder.path());
        let data = folder.path().join("data");
        let mut made = command(initdb);
        made.arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-E", "UTF8", "--no-sync"]);
        made.args(["--locale=C.UTF-8", "--auth=trust"]);
        run(made);
        std::fs::write(data.join("pg_hba.conf"), HBA).expect("written");
        let mut single = command(postgres);
        single.arg("--single").arg("-D").arg(&data).arg("postgres");
        single.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut single = single.spawn().expect("it starts");
        let statements = format!(
            "CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        );
        let mut input = single.stdin.take().expect("an input");
        input.write_all(statements.as_bytes()).expect("it reads");
        drop(input);
        assert!(single.wait().expect("it ends").success());
        std::fs::write(data.join("made"), "").expect("written");
        // Another test may have been quicker.
        let _ = std::fs::rename(&data, &place);
        place
    };
    MADE.get_or_init(make).clone()
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Starts a program that ends with the test.
fn spawn(
    program: &Path,
    arguments: &[String],
    ends: &str,
    log: &Path,
    remove: Option<&Path>,
) -> Child {
    let file = std::fs::File::create(log).expect("a log");
    let mut shell = command(Path::new("/bin/sh"));
    shell
        .args(["-c", SHELL, "sh", ends])
        .arg(remove.unwrap_or(Path::new("")));
    shell.arg(program).args(arguments);
    shell
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file);
    shell.spawn().expect("a shell")
}

impl Postgres {
    /// Starts a server with these settings; `None` if PostgreSQL is not installed, after a line that says
    /// what was not tested.
    pub fn start(settings: &[&str], proves: &str) -> Option<Postgres> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Postgres::prepare(folder.path(), settings, proves)?;
        server._folder = Some(folder);
        server.run(None);
        Some(server)
    }

    /// The server that the tests of a process share; each has a table of its own.
    pub fn shared(proves: &str) -> Option<&'static Postgres> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        let start = || {
            let folder = tempfile::tempdir().expect("a folder").keep();
            let mut server = Postgres::prepare(&folder, &[], proves)?;
            server.run(Some(&folder));
            Some(server)
        };
        SHARED.get_or_init(start).as_ref()
    }

    /// Starts a server with these settings and its files in this folder, which outlives it.
    pub fn start_in(folder: &Path, settings: &[&str], proves: &str) -> Option<Postgres> {
        let mut server = Postgres::prepare(folder, settings, proves)?;
        server.run(None);
        Some(server)
    }

    fn prepare(folder: &Path, settings: &[&str], proves: &str) -> Option<Postgres> {
        let (initdb, postgres) = (part("initdb", proves)?, part("postgres", proves)?);
        let template = template(&initdb, &postgres);
        own(folder);
        let data = folder.join("data");
        copy(&template, &data);
        Some(Postgres {
            shell: None,
            data,
            port: free_port(),
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            _folder: None,
        })
    }

    fn run(&mut self, remove: Option<&Path>) {
        let began = Instant::now();
        'again: loop {
            let base = [
                format!("port={}", self.port),
                "listen_addresses=127.0.0.1".into(),
                "unix_socket_directories=".into(),
                "fsync=off".into(),
                "shared_buffers=64MB".into(),
                "max_connections=60".into(),
                "wal_level=replica".into(),
                "checkpoint_timeout=1h".into(),
            ];
            let settings = base.iter().chain(&self.settings);
            let settings = settings.flat_map(|setting| ["-c".to_owned(), setting.clone()]);
            let mut arguments = vec!["-D".to_owned(), self.data.display().to_string()];
            arguments.extend(settings);
            let program = part("postgres", "nothing more").expect("it was there");
            self.shell = Some(spawn(
                &program,
                &arguments,
                POSTGRES_ENDS,
                &self.log_file(),
                remove,
            ));
            loop {
                if self.try_sql("SELECT 1").is_ok() {
                    return;
                }
                let log = self.log();
                assert!(
                    began.elapsed() < START_MAX,
                    "PostgreSQL does not start:\n{log}"
                );
                // Somebody else has taken the port meanwhile.
                if log.contains("could not bind") || log.contains("could not create any TCP") {
                    self.end();
                    self.port = free_port();
                    continue 'again;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn log_file(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The URL for Weir.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Runs statements as the superuser in Weir's database. Returns the rows, one a line, with `|` between
    /// columns.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// The same, with the error.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        let program = part("psql", "nothing more").expect("it comes with PostgreSQL");
        let mut psql = Command::new(program);
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
        ]);
        psql.args([
            "-U",
            "postgres",
            "-d",
            DATABASE,
            "-p",
            &self.port.to_string(),
        ]);
        psql.args(["-c", statements]).stdin(Stdio::null());
        let output = psql.output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Stops it: `smart`, `fast` or `immediate`, as a crash.
    pub fn stop(&mut self, mode: &str) {
        let program = part("pg_ctl", "nothing more").expect("it comes with PostgreSQL");
        let mut stop = command(&program);
        stop.arg("-D")
            .arg(&self.data)
            .args(["-m", mode, "-w", "stop"]);
        run(stop);
        self.end();
    }

    /// Ends it where `pg_ctl` cannot, because its disk is gone.
    pub fn crash(&mut self) {
        self.end();
    }

    /// Starts it again after a stop, on the same port.
    pub fn start_again(&mut self) {
        self.run(None);
    }

    /// Copies its folder; it must be stopped.
    pub fn copy_to(&self, folder: &Path) {
        copy(&self.data, folder);
    }

    /// Puts a copy in the place of its folder; it must be stopped.
    pub fn restore(&self, folder: &Path) {
        std::fs::remove_dir_all(&self.data).expect("removed");
        copy(folder, &self.data);
    }

    /// Starts a standby of this server.
    pub fn standby(&self) -> Postgres {
        let folder = tempfile::tempdir().expect("a folder");
        own(folder.path());
        let data = folder.path().join("data");
        let program = part("pg_basebackup", "nothing more").expect("it comes with PostgreSQL");
        let mut backup = command(&program);
        backup.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ]);
        backup
            .args(["-X", "stream", "-p", &self.port.to_string(), "-D"])
            .arg(&data);
        run(backup);
        let mut standby = Postgres {
            shell: None,
            data,
            port: free_port(),
            settings: self.settings.clone(),
            _folder: Some(folder),
        };
        standby.run(None);
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.sql("SELECT pg_promote(true, 30)");
    }

    fn end(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            // Its end is what the shell waits for.
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(15);
            eprintln!("the end of PostgreSQL's log:\n{}", lines[last..].join("\n"));
        }
        self.end();
    }
}

/// The URL of a port for Weir.
pub fn url(port: u16) -> String {
    format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}")
}

fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    run(copy);
}

/// A session that holds a lock until it is dropped.
pub struct Holder(Child);

impl Holder {
    /// Runs a statement in a transaction that stays open.
    pub fn begin(server: &Postgres, statement: &str) -> Holder {
        let program = part("psql", "nothing more").expect("it comes with PostgreSQL");
        let mut psql = Command::new(program);
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            DATABASE,
        ]);
        psql.args(["-p", &server.port.to_string()]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().expect("psql");
        let input = child.stdin.as_mut().expect("an input");
        writeln!(input, "BEGIN; {statement}; SELECT 'held';").expect("written");
        let output = child.stdout.as_mut().expect("an output");
        let mut lines = BufReader::new(output).lines();
        while lines.next().expect("a line").expect("text") != "held" {}
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It ends with its input, after the lock: the server would notice a kill only some time later.
        if let Some(mut input) = self.0.stdin.take() {
            let _ = writeln!(input, "ROLLBACK;");
        }
        let _ = self.0.wait();
    }
}

/// A pooler before a server, in transaction mode.
pub struct PgBouncer {
    shell: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts it; `None` if it is not installed, after a line that says what was not tested.
    pub fn start(server: &Postgres, proves: &str) -> Option<PgBouncer> {
        let program = part("pgbouncer", proves)?;
        let folder = tempfile::tempdir().expect("a folder");
        own(folder.path());
        let (port, at) = (free_port(), |name: &str| folder.path().join(name));
        let users = format!("\"{ROLE}\" \"{PASSWORD}\"\n\"postgres\" \"\"\n");
        std::fs::write(at("users"), users).expect("written");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n",
            server.port,
            at("users").display()
        );
        std::fs::write(at("pgbouncer.ini"), config).expect("written");
        let arguments = [at("pgbouncer.ini").display().to_string()];
        let shell = spawn(&program, &arguments, PGBOUNCER_ENDS, &at("log"), None);
        let bouncer = PgBouncer {
            shell,
            port,
            _folder: folder,
        };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < START_MAX, "PgBouncer does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(bouncer)
    }

    pub fn url(&self) -> String {
        url(self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
