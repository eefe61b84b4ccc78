//! Giving back memory that holds the running program's own text and constants.

use std::io;
use std::ops::Range;
use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Asks the kernel to drop the pages of the running program's text and constants, those used at this moment too: what is
/// needed again is read again. Answers how many bytes the ranges have. For a program whose start executes much that is
/// never executed again. Pages that other processes have mapped stay, as do all if the user may not write the file.
///
/// # Errors
/// If the kernel tells nothing of the mappings, or does not know the request (before Linux 5.4).
pub fn page_out_program() -> io::Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let program = std::fs::read_link("/proc/self/exe")?;
    let mut bytes = 0;
    for range in program_ranges(&maps, &program) {
        bytes += range.len();
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is a mapping of a file that nobody writes through; after the call it has the same content.
        unsafe { madvise(start, range.len(), Advice::LinuxPageOut) }?;
    }
    Ok(bytes)
}

/// Mappings of a program's text and constants, from /proc/PID/maps (proc_pid_maps(5)). Constants behind the text hold
/// addresses: where the program is linked to fixed ones, the loader has not written to them and the file has them.
fn program_ranges(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(mode)) = (fields.next(), fields.next()) else { continue };
        if fields.nth(3).map(Path::new) != Some(program) {
            continue;
        }
        let number = |text| usize::from_str_radix(text, 16).ok();
        if let Some((Some(start), Some(end))) = range.split_once('-').map(|(a, b)| (number(a), number(b)))
            && matches!(mode, "r--p" | "r-xp")
        {
            found.push(start..end);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let maps = "\
55e0a000-55e0f000 r--p 00000000 fe:00 77 /usr/bin/kubelet
55e0f000-55e2f000 r-xp 00005000 fe:00 77 /usr/bin/kubelet
55e2f000-55e30000 r--p 00025000 fe:00 77 /usr/bin/kubelet
55e30000-55e31000 rw-p 00026000 fe:00 77 /usr/bin/kubelet
7f000000-7f001000 r-xp 00000000 fe:00 78 /usr/lib/libc.so.6
7f001000-7f002000 rw-p 00000000 00:00 0
";
        assert_eq!(
            program_ranges(maps, Path::new("/usr/bin/kubelet")),
            [0x55e0_a000..0x55e0_f000, 0x55e0_f000..0x55e2_f000, 0x55e2_f000..0x55e3_0000]
        );
        assert!(program_ranges(maps, Path::new("/usr/bin/other")).is_empty());
    }

    #[test]
    fn the_program_goes_on() {
        assert!(page_out_program().unwrap() > 0);
        ranges();
    }
}
