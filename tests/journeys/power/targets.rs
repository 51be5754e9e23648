//! Power cuts with targets whose disks lose their power too: files, lines, a feed, and a table of PostgreSQL,
//! beside a webhook.
//!
//! Weir's store, the feed's own files, the files of the `file` targets and the database have a disk each. The
//! power goes at all of them, at the store alone, or at the targets alone after Weir has ended in good order and
//! counts everything that they acknowledged as delivered. Nobody sends most of the entities a second time, so a
//! target that acknowledged what it had not synced stays without them.
//!
//! `WEIR_CUTS=200 cargo test --test journeys power::targets` makes more cuts.

use std::collections::BTreeMap;

use super::*;
use crate::feeds::records;
use crate::files::{files, held, lines};
use crate::support::PATIENCE;
use crate::support::postgres::{DATABASE, Postgres, own};

/// The number of cuts in a run of all tests, two of each kind.
const CUTS: usize = 6;
/// Without the sync, one of at most this many cuts must lose something. The system may write back what a
/// busy machine took long to deliver, so they are more than where the cut comes at once.
const CUTS_WITHOUT_SYNC: usize = 15;
/// Each of this many requests of a sender has an entity that is never changed again.
const FRESH: u64 = 8;
const MEBIBYTES: u64 = 600;

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
facets.padding = { owner = "pim" }
[sources.pim]
[targets.shop]
kind = "webhook"
url = "{shop}"
timeout = "30s"
[targets.files]
kind = "file"
path = "out/{entity}/{key}.json"
[targets.lines]
kind = "file"
path = "out/all.ndjson"
rotate = { bytes = "64KiB" }
[targets.feed]
kind = "feed"
format = "csv"
fields = { key = "/key", price = "/facets/content" }
interval = "100ms"
shrink_max = "100%"
path = "out/feed.csv"
"#;

const DATABASE_TARGET: &str = r#"
[targets.database]
kind = "postgres"
url = "postgres://postgres@127.0.0.1:{port}/{database}"
table = "products"
key = "key"
columns = { n = "/facets/content" }
"#;

const TABLE: &str =
    "CREATE TABLE products (key text PRIMARY KEY, sequence bigint NOT NULL, n bigint)";

/// What loses its power.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Everything,
    Store,
    Targets,
}

const KINDS: [Cut; 3] = [Cut::Everything, Cut::Store, Cut::Targets];

/// Weir, its targets, and their disks.
struct Rig {
    stage: Stage,
    ledger: Ledger,
    server: Option<Postgres>,
    // Dropped last, and the disk within another one first.
    own: Disk,
    store: Disk,
    out: Disk,
    database: Disk,
}

impl Rig {
    /// `None` if there are no loop mounts. Without PostgreSQL, its channel is left out.
    fn mount() -> Option<Rig> {
        let stage = Stage::closed("");
        let at = |name: &str| Disk::mount_at(&stage.folder().join(name), MEBIBYTES);
        let (store, own) = (at("data")?, at("data/targets")?);
        let (out, database) = (at("out")?, at("database")?);
        // PostgreSQL is another user, for whom the way to its files must be open.
        open(stage.folder());
        let server = start_database(&stage);
        let rig = Rig {
            stage,
            ledger: Ledger::default(),
            server,
            own,
            store,
            out,
            database,
        };
        rig.configure();
        Some(rig)
    }

    fn channels(&self) -> impl Iterator<Item = &'static str> {
        let database = self.server.as_ref().map(|_| "database");
        ["shop", "files", "lines", "feed"]
            .into_iter()
            .chain(database)
    }

    /// The configuration; the port of the database may be another one after a start.
    fn configure(&self) {
        let mut config = CATALOG.to_owned();
        if let Some(server) = &self.server {
            let port = server.port().to_string();
            config += &DATABASE_TARGET
                .replace("{port}", &port)
                .replace("{database}", DATABASE);
        }
        for channel in self.channels() {
            config += &format!(
                "[channels.{channel}]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"{channel}\"\n\
                 retry = {{ first = \"20ms\", cap = \"100ms\" }}\n\
                 withdraw_max = {{ share = \"100%\", per = \"1h\", min = 1000000 }}\n"
            );
        }
        self.stage.configure(&config);
    }

    /// Sends for a while, cuts, and starts everything that has ended.
    fn cut(&mut self, cut: Cut, start: impl FnOnce(&mut Stage)) {
        let over = AtomicBool::new(false);
        let (running, ledger, over) = (&self.stage, &self.ledger, &over);
        std::thread::scope(|scope| {
            let _ends = Ends(over);
            let before = ledger.count();
            for sender in 0..SENDERS {
                scope.spawn(move || send(running, ledger, over, names(sender, ledger), deletes));
            }
            accepts(ledger, before);
            // Longer than the second in which Weir notes what was delivered.
            std::thread::sleep(Duration::from_millis(fastrand::u64(800..2_000)));
            if cut == Cut::Targets {
                return;
            }
            freeze(running);
            self.store.cut();
            if cut == Cut::Everything {
                [&self.own, &self.out, &self.database]
                    .into_iter()
                    .for_each(Disk::cut);
            }
            running.weir().signal(Signal::KILL);
        });
        match cut {
            Cut::Everything | Cut::Store => self.stage.kill(),
            Cut::Targets => {
                self.channels_settle();
                self.stage.stop();
                [&self.own, &self.out, &self.database]
                    .into_iter()
                    .for_each(Disk::cut);
            }
        }
        if cut != Cut::Store {
            if let Some(server) = &mut self.server {
                server.crash();
            }
            remount(&[&self.out, &self.database]);
        }
        match cut {
            Cut::Targets => remount(&[&self.own]),
            // The disk of the feed is mounted in that of the store.
            Cut::Everything | Cut::Store => remount(&[&self.own, &self.store]),
        }
        if let Some(server) = self.server.as_mut().filter(|_| cut != Cut::Store) {
            server.start_again();
        }
        self.configure();
        start(&mut self.stage);
    }

    fn channels_settle(&self) {
        self.channels()
            .for_each(|channel| self.stage.settles(channel));
    }

    /// Closes the accounts of the webhook, and compares what the other targets hold.
    fn close(&self) -> Result<Counts, String> {
        let (stage, ledger) = (&self.stage, &self.ledger);
        self.channels_settle();
        let counts = ledger.close(stage, "shop", &stage.shop.deliveries())?;
        let (out, stored) = (stage.folder().join("out"), ledger.stored(stage)?);
        let numbers = |found: BTreeMap<String, serde_json::Value>| {
            let number = |(key, value): (String, serde_json::Value)| Some((key, value.as_u64()?));
            found.into_iter().filter_map(number).collect()
        };
        agrees("the folder", &numbers(files(&out)), &stored)?;
        agrees("the lines", &numbers(held(&lines(&out, false))), &stored)?;
        if let Some(server) = &self.server {
            let rows = server.sql("SELECT key, n FROM products");
            let row = |line: &str| {
                let (key, number) = line.split_once('|')?;
                Some((key.to_owned(), number.parse().ok()?))
            };
            agrees(
                "the table",
                &rows.lines().filter_map(row).collect(),
                &stored,
            )?;
        }
        // A generation is built some time after its deliveries.
        let feed = || stage.weir().get("/v1/feeds/feed");
        let began = std::time::Instant::now();
        loop {
            let reply = feed();
            let looked = match reply.status {
                200 => agrees("the feed", &records(&reply.body), &stored),
                status => Err(format!("the feed is answered with {status}")),
            };
            if looked.is_ok() || began.elapsed() > PATIENCE {
                break looked?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let path = out.join("feed.csv");
        eventually("the feed is at its path", || {
            (std::fs::read(&path).ok()? == feed().body).then_some(())
        });
        Ok(counts)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Before its disk.
        self.server = None;
    }
}

/// Compares what a target holds with what is stored.
///
/// # Errors
/// The first entity that it holds in another state.
fn agrees(
    target: &str,
    holds: &BTreeMap<String, u64>,
    stored: &BTreeMap<String, u64>,
) -> Result<(), String> {
    let mut keys = stored.keys().chain(holds.keys());
    match keys.find(|key| holds.get(*key) != stored.get(*key)) {
        None => Ok(()),
        Some(key) => Err(format!(
            "{key}: {target} holds {:?}, but {:?} is stored",
            holds.get(key),
            stored.get(key)
        )),
    }
}

fn open(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, mode).expect("a mode");
}

fn start_database(stage: &Stage) -> Option<Postgres> {
    let folder = stage.folder().join("database");
    own(&folder);
    let settings = ["fsync=on"];
    let server = Postgres::start_in(&folder, &settings, "power cuts of a database")?;
    server.sql(TABLE);
    // What `initdb` wrote was not synced.
    rustix::fs::sync();
    Some(server)
}

/// Unmounts disks after a cut and mounts them again in the reverse order.
fn remount(disks: &[&Disk]) {
    disks.iter().for_each(|disk| disk.unmount());
    for disk in disks.iter().rev() {
        assert!(disk.remount(), "the file system does not mount again");
    }
}

/// The keys of a sender's next request: its own, which rise, and now and then one that is new and never sent
/// again.
fn names(sender: usize, ledger: &Ledger) -> impl FnMut() -> Vec<String> {
    let first = ledger.count();
    let mut requests = 0;
    move || {
        requests += 1;
        let mut keys = keys(sender);
        if requests % FRESH == 1 {
            keys.push(format!("{sender}-after-{first}-{requests}"));
        }
        keys
    }
}

/// The first key of each sender is deleted at each fifth time.
fn deletes(key: &str, number: u64) -> bool {
    key.ends_with("-0") && number.is_multiple_of(5)
}

#[test]
fn after_a_power_cut_of_weir_and_of_its_targets_each_target_holds_what_is_true() {
    let Some(mut rig) = Rig::mount() else {
        return loud();
    };
    let (cuts, mut counts) = (repeats("WEIR_CUTS", CUTS), Counts::default());
    rig.stage.start();
    for (number, cut) in KINDS.into_iter().cycle().take(cuts).enumerate() {
        rig.cut(cut, Stage::start);
        let closed = rig.close();
        counts = closed.unwrap_or_else(|why| panic!("cut {number}, of {cut:?}: {why}"));
    }
    assert!(
        counts.accepted > SENDERS * KEYS * cuts,
        "too little was accepted: {counts:?}"
    );
    println!("{cuts} cuts, none lost anything: {counts:?}");
    rig.stage.kill();
}

#[test]
fn targets_that_do_not_sync_lose_what_they_acknowledged() {
    let Some(mut rig) = Rig::mount() else {
        return loud();
    };
    let without_sync = without_sync(&rig.stage);
    rig.stage.start_by(without_sync());
    let cut = notices(CUTS_WITHOUT_SYNC, |_| {
        rig.cut(Cut::Targets, |stage| stage.start_by(without_sync()));
        rig.close()
    });
    println!("noticed at cut {cut}");
}
