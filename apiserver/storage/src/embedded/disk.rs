//! The few file operations the log needs, as a seam for fault tests.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Makes log files.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
}

/// A file being appended to by one writer.
pub trait LogFile: Send {
    /// Reserves space, so that later writes neither fail for lack of it nor change anything of the file but its bytes:
    /// [`LogFile::sync`] then has no more to write than these.
    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(RealFile(File::options().read(true).write(true).create_new(true).open(path)?)))
    }
}

/// Zeros are written so many at a time.
const ZEROS: usize = 64 << 10;

struct RealFile(File);

impl LogFile for RealFile {
    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.0, flags, offset, len) {
            // A file system without fallocate (and no full disk) only loses the optimisation.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => other?,
        }
        // Blocks that are only promised are noted in the inode when they are first written, which each sync would
        // have to make durable by a second write.
        let zeros = vec![0; ZEROS];
        for at in (offset..offset + len).step_by(ZEROS) {
            let rest = usize::try_from(offset + len - at).unwrap_or(ZEROS);
            self.0.write_all_at(&zeros[..rest.min(ZEROS)], at)?;
        }
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.sync_all()
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
