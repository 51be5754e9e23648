//! The last events of each source, kept beside the store, so that a version of a plugin that came while
//! Weir was stopped is tried as well.
//!
//! The file holds what senders sent, so only this process's user can read it. To lose it costs a
//! trial and nothing else: it is not synced, and what cannot be read is passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::apply::Live;
use crate::model::Event;
use crate::server::views::EventView;

/// The name of the file.
const FILE: &str = "samples.json";
/// Its name while it is written.
const UNFINISHED: &str = "samples.json.unfinished";
/// A larger file is not ours: the samples of a source have at most 1 MiB, a third more in base64.
const BYTES_MAX: u64 = 256 << 20;

/// Events by source.
pub(super) type Samples = BTreeMap<Arc<str>, Vec<Event>>;

/// Reads the samples of the last run.
pub(super) fn read(folder: &Path) -> Samples {
    let path = folder.join(FILE);
    let is_ours = |file: fs::Metadata| file.is_file() && file.len() <= BYTES_MAX;
    if !fs::symlink_metadata(&path).is_ok_and(is_ours) {
        return Samples::new();
    }
    let read = fs::read(&path).ok();
    let views = read
        .and_then(|bytes| serde_json::from_slice::<BTreeMap<String, Vec<EventView>>>(&bytes).ok());
    let events = |(source, views): (String, Vec<EventView>)| {
        let events = views.into_iter().filter_map(EventView::event);
        (Arc::from(source), events.collect())
    };
    views.into_iter().flatten().map(events).collect()
}

/// Writes the samples of all sources. Blocking.
pub(super) fn write(folder: &Path, live: &Live) -> io::Result<()> {
    let samples: BTreeMap<&str, Vec<EventView>> = live
        .sources
        .iter()
        .map(|(name, intake)| {
            let events = intake.source.activity().samples();
            (&**name, events.iter().map(EventView::of).collect())
        })
        .collect();
    let unfinished = folder.join(UNFINISHED);
    // A Weir that was killed here left one.
    let _ = fs::remove_file(&unfinished);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(&serde_json::to_vec(&samples)?)?;
    fs::rename(&unfinished, folder.join(FILE))
}
