//! Folders and files of the node. Upstream: pkg/volume/hostpath/host_path.go, v1.37.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks that the path is what the volume says, or makes it so.
///
/// # Errors
/// If it is something else, or cannot be made.
pub fn prepare(path: &Path, kind: &str) -> io::Result<()> {
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(path)?;
            return fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        }
        "FileOrCreate" if !path.exists() => {
            fs::OpenOptions::new().create(true).append(true).open(path)?;
            return fs::set_permissions(path, fs::Permissions::from_mode(0o644));
        }
        _ => {}
    }
    let found = fs::metadata(path).map(|m| m.file_type());
    let (expected, good): (&str, fn(&fs::FileType) -> bool) = match kind {
        "Directory" | "DirectoryOrCreate" => ("directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => ("file", fs::FileType::is_file),
        "Socket" => ("socket file", FileTypeExt::is_socket),
        "CharDevice" => ("character device", FileTypeExt::is_char_device),
        "BlockDevice" => ("block device", FileTypeExt::is_block_device),
        other => return Err(io::Error::other(format!("{other} is an invalid volume type"))),
    };
    if found.as_ref().is_ok_and(good) {
        return Ok(());
    }
    let path = path.display();
    let unknown = |why: String| {
        format!("hostPath type check failed, {path} is not a {expected}, unable to determine its type: {why}")
    };
    Err(io::Error::other(match found {
        Ok(found) => type_name(found).map_or_else(
            || {
                unknown(
                    "only recognise file, directory, socket, block device and character device".to_owned(),
                )
            },
            |name| format!("hostPath type check failed: {path} is not a {expected}, it's a {name}"),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            unknown(format!("path {:?} does not exist", path.to_string()))
        }
        Err(error) => unknown(error.to_string()),
    }))
}

/// The type that a volume would have to name.
fn type_name(found: fs::FileType) -> Option<&'static str> {
    match () {
        () if found.is_dir() => Some("Directory"),
        () if found.is_file() => Some("File"),
        () if found.is_socket() => Some("Socket"),
        () if found.is_char_device() => Some("CharDevice"),
        () if found.is_block_device() => Some("BlockDevice"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(prepare(&path, "").is_ok());
        let error = prepare(&path, "Directory").unwrap_err().to_string();
        let shown = path.display();
        assert_eq!(
            error,
            format!(
                "hostPath type check failed, {shown} is not a directory, unable to determine its type: path \"{shown}\" does not exist"
            )
        );
        assert!(prepare(&path, "FileOrCreate").is_ok());
        assert!(prepare(&path, "File").is_ok());
        let error = prepare(&path, "DirectoryOrCreate").unwrap_err().to_string();
        assert_eq!(error, format!("hostPath type check failed: {shown} is not a directory, it's a File"));
        assert!(prepare(Path::new("/dev/null"), "CharDevice").is_ok());
    }
}
