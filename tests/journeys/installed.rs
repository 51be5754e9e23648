//! Weir as a package installs it, in a fresh system: the user, the unit's command, the demo, an upgrade in use, a
//! backup restored, removing and purging; and the same system as a container has it.
//!
//! `WEIR_DEB=weir.deb cargo test --test journeys installed` runs this; `runtime/assets/packaging/deb` makes the
//! package. It takes root, debootstrap and the network; or a system that debootstrap has made before, packed, in `WEIR_SYSTEM`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Receiver, change, eventually, http};

/// The largest package: the program has 47 MiB and packs to a third.
const BYTES_MAX: u64 = 32 << 20;

/// A plugin that no channel uses yet; it is compiled all the same.
const PLUGIN: &str =
    "[plugins.in-stock]\npath = \"/usr/share/weir/plugins/in-stock/dist/in_stock.wasm\"\n";

/// A Debian with nothing but what is essential, and the package in it.
struct System {
    root: PathBuf,
    /// What is mounted in it, the last first.
    mounted: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

impl System {
    fn fresh() -> System {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder");
        let mut make = match std::env::var_os("WEIR_SYSTEM") {
            Some(packed) => {
                let mut make = Command::new("tar");
                make.arg("-xpf").arg(packed).arg("-C").arg(&root);
                make.arg("--strip-components=1");
                make
            }
            None => {
                let mut make = Command::new("debootstrap");
                make.args(["--variant=minbase", "--include=adduser", "bookworm"]);
                make.arg(&root);
                make
            }
        };
        let made = make.output().expect("it runs");
        assert!(made.status.success(), "{made:?}");
        let mut system = System {
            root,
            mounted: Vec::new(),
            _folder: folder,
        };
        // The compiler of plugins is the program that runs: /proc/self/exe.
        system.mounts(&["-t", "proc", "proc"], "proc");
        system
    }

    fn mounts(&mut self, what: &[&str], at: &str) {
        let at = self.root.join(at);
        std::fs::create_dir_all(&at).expect("a folder");
        let done = Command::new("mount").args(what).arg(&at).status();
        assert!(done.expect("it runs").success(), "{what:?}");
        self.mounted.insert(0, at);
    }

    /// A command in it, as this user, with no variables of here.
    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={user}"))
            .arg(&self.root)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command as root; it must succeed. Returns what it prints.
    #[track_caller]
    fn runs(&self, arguments: &[&str]) -> String {
        let (code, said) = self.tries("root", arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    fn tries(&self, user: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let done = self.command(user, arguments).output().expect("it runs");
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn read(&self, path: &str) -> String {
        let whole = self.root.join(path.trim_start_matches('/'));
        std::fs::read_to_string(whole).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn writes(&self, path: &str, text: &str) {
        let whole = self.root.join(path.trim_start_matches('/'));
        std::fs::write(whole, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// What `ls` says of a path: its mode, owner and group.
    fn mode(&self, path: &str) -> String {
        self.runs(&["stat", "--format=%a %U %G", path])
            .trim()
            .to_owned()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for at in &self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(at).status();
        }
    }
}

/// A Weir that runs in the system.
struct Running {
    child: Child,
    address: std::net::SocketAddr,
    log: PathBuf,
}

impl Running {
    fn starts(mut command: Command, address: std::net::SocketAddr, log: &Path) -> Running {
        let file = std::fs::File::create(log).expect("a log file");
        command
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        let mut running = Running {
            child: command.spawn().expect("it starts"),
            address,
            log: log.to_owned(),
        };
        eventually("Weir is ready", || {
            let ended = running.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{ended:?}: {}", running.said());
            let reply = http::request(address, "GET", "/readyz", &[], b"");
            reply.is_ok_and(|reply| reply.status == 200).then_some(())
        });
        running
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether a change was accepted.
    fn takes(&self, key: &str, value: Value) -> bool {
        send(self.address, key, value)
    }

    #[track_caller]
    fn stops(mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, Signal::TERM).expect("signalled");
        let status = eventually("Weir ends", || self.child.try_wait().expect("a child"));
        assert!(status.success(), "{status}: {}", self.said());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(address: std::net::SocketAddr, key: &str, value: Value) -> bool {
    let body = change(key, "content", value).to_string();
    let headers = [("content-type", "application/x-ndjson")];
    let path = "/v1/sources/pim/events";
    let reply = http::request(address, "POST", path, &headers, body.as_bytes());
    reply.is_ok_and(|reply| reply.status == 202)
}

/// The same package with a later version.
fn later(deb: &Path, folder: &Path) -> PathBuf {
    let (unpacked, packed) = (folder.join("later"), folder.join("later.deb"));
    let run = |command: &mut Command| assert!(command.status().expect("it runs").success());
    run(Command::new("dpkg-deb").arg("-R").arg(deb).arg(&unpacked));
    let control = unpacked.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("a control file");
    let line = text.lines().find(|line| line.starts_with("Version: "));
    let text = text.replace(line.expect("a version"), "Version: 99.0.0-1");
    std::fs::write(&control, text).expect("written");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zgzip", "-z1", "-b"])
        .arg(&unpacked)
        .arg(&packed));
    packed
}

/// A free port, below those that the system gives to clients.
fn port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..30_000))
        .find(free)
        .expect("a port")
}

/// What a team puts into `conf.d`.
fn team(address: std::net::SocketAddr, shop: &Receiver) -> String {
    format!(
        "[server]\nlisten = \"{address}\"\n[entities.product]\nfacets.content = {{ owner = \"pim\" }}\n[sources.pim]\n\
         [targets.shop]\nkind = \"webhook\"\nurl = {:?}\n\
         [channels.shop]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n",
        shop.url()
    )
}

#[test]
fn a_package_is_installed_run_upgraded_in_use_and_purged() {
    let Some(deb) = std::env::var_os("WEIR_DEB").map(PathBuf::from) else {
        return eprintln!("NOT RUN: WEIR_DEB names no package; installing one was not tested");
    };
    let bytes = std::fs::metadata(&deb).expect("the package").len();
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
    let mut system = System::fresh();
    std::fs::copy(&deb, system.root.join("weir.deb")).expect("copied");

    // Installed.
    let said = system.runs(&["dpkg", "-i", "/weir.deb"]);
    for words in ["weir demo", "/etc/weir/conf.d", "systemctl reload weir"] {
        assert!(said.contains(words), "what to do next: {said}");
    }
    let scripts = system.runs(&["sh", "-c", "cat /var/lib/dpkg/info/weir.p*"]);
    for words in [
        "deb-systemd-invoke",
        "_dh_action=restart",
        "deb-systemd-helper enable",
    ] {
        assert!(
            scripts.contains(words),
            "the unit is looked after: {scripts}"
        );
    }
    assert!(!scripts.contains("#DEBHELPER#"), "{scripts}");
    assert!(system.has("/usr/lib/systemd/system/weir.service"));
    assert_eq!(system.mode("/var/lib/weir"), "700 weir weir");
    assert_eq!(system.mode("/etc/weir/environment"), "640 root weir");
    for file in [
        "/usr/share/man/man1/weir-channel-list.1.gz",
        "/usr/share/bash-completion/completions/weir",
        "/usr/share/doc/weir/install.md",
        "/usr/share/weir/examples/reference.toml",
    ] {
        assert!(system.has(file), "{file}");
    }

    // The demo, as somebody who may write nowhere but in /tmp.
    let (code, said) = system.tries("nobody:nogroup", &["weir", "demo", "--seconds", "3"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("All channels have converged."), "{said}");

    // The command of the unit, as its user, with nothing and then with what a team wants.
    let unit = system.read("/usr/lib/systemd/system/weir.service");
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let command: Vec<&str> = command.expect("a command").split(' ').collect();
    let check = ["weir", "check", "-c", "/etc/weir/weir.toml"];
    let (code, said) = system.tries("weir:weir", &check);
    assert_eq!((code, said.contains("arning")), (Some(0), false), "{said}");
    let example = system.read("/usr/share/weir/examples/first-webhook/weir.toml");
    let first = example.replace("config_version = 1\n", "");
    system.writes("/etc/weir/conf.d/first.toml", &first);
    let said = system.runs(&check);
    assert!(said.contains("2 sources, 0 plugins, 1 channel"), "{said}");
    std::fs::remove_file(system.root.join("etc/weir/conf.d/first.toml")).expect("removed");
    let shop = Receiver::start();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port()));
    system.writes("/etc/weir/conf.d/server.toml", "");
    system.writes("/etc/weir/conf.d/team.toml", &team(address, &shop));
    let log = system.root.join("log");
    let weir = Running::starts(system.command("weir:weir", &command), address, &log);
    assert!(weir.takes("lamp", json!(1)), "{}", weir.said());
    let url = format!("http://{address}");
    let reload = ["env", &format!("WEIR_URL={url}"), "weir", "reload"];
    assert_eq!(system.runs(&reload), "nothing has changed\n");
    system.writes("/etc/weir/conf.d/wrong.toml", "[chanels]\n");
    let (code, said) = system.tries("root", &reload);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/etc/weir/conf.d/wrong.toml:1:"), "{said}");
    std::fs::remove_file(system.root.join("etc/weir/conf.d/wrong.toml")).expect("removed");

    // A newer one, while events come, after somebody has changed a file of the package.
    let edited = format!("{}\n# edited\n", system.read("/etc/weir/weir.toml"));
    system.writes("/etc/weir/weir.toml", &edited);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(later(&deb, folder.path()), system.root.join("later.deb")).expect("copied");
    let over = std::sync::atomic::AtomicBool::new(false);
    let (accepted, weir) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut accepted = Vec::new();
            for number in 0.. {
                if over.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                // Each until it is accepted, as a sender does; between two Weirs nobody listens.
                let key = format!("k{number}");
                eventually("it is accepted", || {
                    send(address, &key, json!(number)).then_some(())
                });
                accepted.push(key);
            }
            accepted
        });
        let _ends = crate::support::Ends(&over);
        let said = system.runs(&["dpkg", "-i", "/later.deb"]);
        assert!(
            !said.contains("weir demo"),
            "an upgrade needs no advice: {said}"
        );
        // What the unit's restart does. A plugin is compiled by the program that runs, whose file is another by now.
        system.writes("/etc/weir/conf.d/plugin.toml", PLUGIN);
        let (code, said) = system.tries("root", &reload);
        assert_eq!(code, Some(0), "{said}");
        weir.stops();
        let weir = Running::starts(system.command("weir:weir", &command), address, &log);
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        (sending.join().expect("no panic"), weir)
    });
    assert!(accepted.len() > 1, "{accepted:?}");
    assert_eq!(system.read("/etc/weir/weir.toml"), edited);
    assert!(
        system
            .runs(&["dpkg-query", "-W", "weir"])
            .contains("99.0.0"),
        "the newer one is installed"
    );
    eventually("all that was accepted is delivered", || {
        let held = shop.holds();
        accepted
            .iter()
            .all(|key| held.contains_key(key))
            .then_some(())
    });

    // A backup, restored by root: refused, because Weir could not read it then. By its user it is fine.
    let made = system.runs(&["env", &format!("WEIR_URL={url}"), "weir", "backup"]);
    let file = made.split(':').next().expect("a path").to_owned();
    weir.stops();
    system.runs(&["mv", "/var/lib/weir/store", "/var/lib/weir/store.old"]);
    let restore = ["weir", "restore", &file, "-c", "/etc/weir/weir.toml"];
    let (code, said) = system.tries("root", &restore);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("belongs to the user weir"), "{said}");
    let (code, said) = system.tries("weir:weir", &restore);
    assert_eq!(code, Some(0), "{said}");
    let weir = Running::starts(system.command("weir:weir", &command), address, &log);
    assert!(weir.takes("lamp", json!(2)));
    weir.stops();

    // As in a container: the root read-only, any user with the group 0 and without a name, the first process.
    let data = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::chown(data.path(), None, Some(0)).expect("changed");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o770);
    std::fs::set_permissions(data.path(), open).expect("changed");
    std::fs::set_permissions(
        system.root.join("var/lib/weir"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("changed");
    let root = system.root.to_string_lossy().into_owned();
    system.mounts(&["--bind", &root], "");
    let remounted = Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(&system.root)
        .status();
    assert!(remounted.expect("it runs").success());
    system.mounts(&["-t", "proc", "proc"], "proc");
    let volume = data.path().to_string_lossy().into_owned();
    system.mounts(&["--bind", &volume], "var/lib/weir");
    let mut contained = Command::new("unshare");
    contained.args([
        "--pid",
        "--fork",
        "--kill-child",
        "chroot",
        "--userspec=1000710000:0",
    ]);
    contained.arg(&system.root).args(&command);
    contained.env_clear().env("PATH", "/usr/sbin:/usr/bin");
    let outside = tempfile::tempdir().expect("a folder");
    let weir = Running::starts(contained, address, &outside.path().join("log"));
    assert!(weir.takes("lamp", json!(3)), "{}", weir.said());
    let children = format!("/proc/{0}/task/{0}/children", weir.child.id());
    let children = std::fs::read_to_string(children).expect("it runs");
    let first = children.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(first.expect("one process"), Signal::TERM).expect("signalled");
    let mut weir = weir;
    let status = eventually("Weir ends", || weir.child.try_wait().expect("a child"));
    assert!(status.success(), "{status}: {}", weir.said());
    for _ in 0..3 {
        let at = system.mounted.remove(0);
        assert!(
            Command::new("umount")
                .arg(&at)
                .status()
                .expect("it runs")
                .success()
        );
    }

    // Removed, and purged: the store stays, and it is said where.
    system.runs(&["dpkg", "-r", "weir"]);
    assert!(!system.has("/usr/bin/weir") && system.has("/etc/weir/weir.toml"));
    let said = system.runs(&["dpkg", "-P", "weir"]);
    assert!(said.contains("/var/lib/weir"), "{said}");
    assert!(!system.has("/etc/weir/weir.toml") && !system.has("/etc/weir/environment"));
    assert!(system.has("/var/lib/weir/store"));
    assert_eq!(system.runs(&["id", "-un", "weir"]), "weir\n");
}
