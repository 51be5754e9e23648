//! Whose the folder is in which Weir keeps everything.
//!
//! What root writes there, for example when a backup is restored, the user that Weir runs as cannot read afterwards:
//! the files of the store are for their owner alone. So root leaves the folder of another user alone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Checks that this process may write in a folder which is there or will be made.
///
/// # Errors
/// A sentence, if this is root and the folder another user's.
pub(super) fn check(folder: &Path) -> Result<(), String> {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let owner = whole.ancestors().find_map(|folder| folder.metadata().ok());
    let owner = owner.map_or(0, |folder| folder.uid());
    if owner == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let user = name(owner).unwrap_or_else(|| format!("#{owner}"));
    Err(format!(
        "{} belongs to the user {user}, who could not read what root writes there; run this as that user: \
         `sudo -u '{user}' weir …`",
        whole.display()
    ))
}

/// The name of a user, if the system's list has one.
fn name(user: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_leaves_the_folder_of_another_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        assert_eq!(check(&data), Ok(()), "its own");
        if std::os::unix::fs::chown(folder.path(), Some(12_345), None).is_err() {
            return eprintln!("NOT RUN: only root can give a folder away");
        }
        let why = check(&data).expect_err("of another user");
        assert!(why.contains("belongs to the user #12345"), "{why}");
        assert_eq!(name(0).as_deref(), Some("root"));
    }
}
