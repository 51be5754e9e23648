//! A separate disk for a store: a file system in a file, which can be small or lose its power. It
//! needs root and loop mounts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in a file, mounted where the store will be.
pub struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    /// Creates the file system and mounts it at `data` in that folder. `None` if the user or the
    /// kernel does not allow it.
    pub fn mount(folder: &Path, mebibytes: u64) -> Option<Disk> {
        Disk::mount_at(&folder.join("data"), mebibytes)
    }

    /// The same at a folder that is created for it, with the file of the file system beside it.
    pub fn mount_at(folder: &Path, mebibytes: u64) -> Option<Disk> {
        let disk = Disk {
            image: folder.with_extension("img"),
            mounted_at: folder.to_owned(),
        };
        std::fs::create_dir(&disk.mounted_at).ok()?;
        File::create(&disk.image)
            .ok()?
            .set_len(mebibytes << 20)
            .ok()?;
        let made = run(Command::new("mkfs.ext4")
            .arg("-q")
            .arg("-F")
            .arg(&disk.image));
        (made && disk.remount()).then_some(disk)
    }

    pub fn remount(&self) -> bool {
        run(Command::new("mount")
            .arg("-o")
            .arg("loop")
            .arg(&self.image)
            .arg(&self.mounted_at))
    }

    /// Shuts the file system down without writing anything back, as a power cut does.
    pub fn cut(&self) {
        // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32), with EXT4_GOING_FLAGS_NOLOGFLUSH.
        const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(&self.mounted_at).expect("it is mounted");
        // SAFETY: the call reads one u32, which `Setter` passes by reference.
        unsafe {
            rustix::ioctl::ioctl(
                &folder,
                rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH),
            )
        }
        .expect("shut down");
    }

    pub fn unmount(&self) {
        assert!(
            run(Command::new("umount").arg(&self.mounted_at)),
            "the file system cannot be unmounted after it was shut down"
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure it may already be unmounted.
        run(Command::new("umount").arg("-l").arg(&self.mounted_at));
    }
}

/// Whether a command succeeded.
pub fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
