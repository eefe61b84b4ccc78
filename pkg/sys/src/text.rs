//! Memory that holds the running program's own text and constants: how much of it is used, and giving it back.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
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
    for line in maps.lines() {
        let Some(range) = program_range(line, &program) else { continue };
        bytes += range.len();
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is a mapping of a file that nobody writes through; after the call it has the same content.
        unsafe { madvise(start, range.len(), Advice::LinuxPageOut) }?;
    }
    Ok(bytes)
}

/// How much of the running program's text and constants is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramUse {
    /// Bytes that are there.
    pub resident: u64,
    /// Bytes of them that were used since the last look.
    pub referenced: u64,
}

/// Looks which of the running program's text and constants was used since the last look, and begins to count anew. Pages of
/// files that anybody else follows in this process (`/proc/PID/clear_refs`) count anew, too.
///
/// # Errors
/// If the kernel does not tell, or the user may not ask.
pub fn look_at_program() -> io::Result<ProgramUse> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let seen = program_use(BufReader::with_capacity(4096, File::open("/proc/self/smaps")?), &program)?;
    // "3" is for pages of files (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "3")?;
    Ok(seen)
}

/// A program's share of smaps (proc_pid_smaps(5)). The kernel walks through mappings as they are read, and a program lies
/// below its heap, which may be large: nothing behind it is read.
fn program_use(smaps: impl BufRead, program: &Path) -> io::Result<ProgramUse> {
    let (mut found, mut inside, mut met) = (ProgramUse::default(), false, false);
    for line in smaps.lines() {
        let line = line?;
        if line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            let its = line.split_ascii_whitespace().nth(5).map(Path::new) == Some(program);
            if met && !its {
                break;
            }
            (met, inside) = (its, program_range(&line, program).is_some());
        } else if inside && let Some((name, amount)) = line.split_once(':') {
            let bytes = || amount.trim().strip_suffix(" kB").and_then(|n| n.parse().ok()).unwrap_or(0) << 10;
            match name {
                "Rss" => found.resident += bytes(),
                "Referenced" => found.referenced += bytes(),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The mapping of a line of /proc/PID/maps (proc_pid_maps(5)), if it is one of the program's text or constants. Constants
/// behind the text hold addresses: where the program is linked to fixed ones, the loader has not written to them and the
/// file has them.
fn program_range(line: &str, program: &Path) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode) = (fields.next()?, fields.next()?);
    if fields.nth(3).map(Path::new) != Some(program) || !matches!(mode, "r--p" | "r-xp") {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    range.split_once('-').and_then(|(a, b)| Some(number(a)?..number(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55e0a000-55e0f000 r--p 00000000 fe:00 77 /usr/bin/kubelet
55e0f000-55e2f000 r-xp 00005000 fe:00 77 /usr/bin/kubelet
55e2f000-55e30000 r--p 00025000 fe:00 77 /usr/bin/kubelet
55e30000-55e31000 rw-p 00026000 fe:00 77 /usr/bin/kubelet
7f000000-7f001000 r-xp 00000000 fe:00 78 /usr/lib/libc.so.6
7f001000-7f002000 rw-p 00000000 00:00 0
";

    #[test]
    fn ranges() {
        let of = |program: &str| -> Vec<_> {
            MAPS.lines().filter_map(|l| program_range(l, Path::new(program))).collect()
        };
        assert_eq!(
            of("/usr/bin/kubelet"),
            [0x55e0_a000..0x55e0_f000, 0x55e0_f000..0x55e2_f000, 0x55e2_f000..0x55e3_0000]
        );
        assert!(of("/usr/bin/other").is_empty());
    }

    #[test]
    fn text_and_constants_are_added_up() {
        let smaps: String = MAPS
            .lines()
            .enumerate()
            .map(|(i, line)| format!("{line}\nSize: 9 kB\nRss:   {} kB\nReferenced:  {i} kB\n", 10 * i))
            .collect();
        let of = |program: &str| program_use(smaps.as_bytes(), Path::new(program)).unwrap();
        assert_eq!(of("/usr/bin/kubelet"), ProgramUse { resident: 30 << 10, referenced: 3 << 10 });
        assert_eq!(of("/usr/bin/other"), ProgramUse::default());
    }

    #[test]
    fn what_is_behind_the_program_is_not_read() {
        struct Rest;
        impl io::Read for Rest {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("read on"))
            }
        }
        let smaps = BufReader::new(io::Read::chain(MAPS.as_bytes(), Rest));
        assert!(program_use(smaps, Path::new("/usr/bin/kubelet")).is_ok());
        let smaps = BufReader::new(io::Read::chain(MAPS.as_bytes(), Rest));
        assert!(program_use(smaps, Path::new("/usr/bin/other")).is_err());
    }

    #[test]
    fn the_program_goes_on() {
        let first = look_at_program().unwrap();
        assert!(first.resident > 0 && first.referenced > 0, "{first:?}");
        assert!(page_out_program().unwrap() > 0);
        ranges();
        assert!(look_at_program().unwrap().resident > 0);
    }
}
