//! Disks for guests: images of the user's, and the sample that a guest gets which
//! wants one.

use std::{
    fs::{self, File},
    io::{Cursor, Write},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use sha2::{Digest, Sha256};

use crate::{
    folders::{self, run_folder},
    job::disk::{Access, Disk},
    workers,
};

/// Guests that are of no use without a disk, and what they do with it.
const WANT_ONE: [(&str, Access); 4] = [
    ("disk", Access::Write),
    ("load", Access::Write),
    ("own-kernel", Access::Read),
    ("web", Access::Read),
];

const MIB: usize = 1 << 20;
const SECTOR_BYTES: usize = 512;
/// Where the partitions of the sample lie, and how large they are.
const FAT_AT: usize = MIB;
const FAT_BYTES: usize = 4 * MIB;
const EXT4_AT: usize = FAT_AT + FAT_BYTES;
const EXT4_BYTES: usize = 4 * MIB;

/// As disks' makers count.
const MB: usize = 1_000_000;
/// The large file.
const LARGE: &str = "large.bin";

/// The sample disk, fresh, for a guest that wants one, with a large file of so many
/// megabytes, or none.
pub(crate) fn sample_for(guest: &str, platform: &str, large_mb: usize) -> Result<Option<Disk>> {
    let Some((_, access)) = WANT_ONE.into_iter().find(|(name, _)| *name == guest) else {
        return Ok(None);
    };
    // Two guests that run at once may both have one.
    let name = format!("sample-{guest}-{platform}{}", workers::current());
    keep(&name, &sample(&files(large_mb))?, access).map(Some)
}

fn keep(name: &str, image: &[u8], access: Access) -> Result<Disk> {
    let path = folders::cache().join(name);
    fs::create_dir_all(folders::cache())?;
    fs::write(&path, image).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Disk { path, access })
}

/// The files that web servers are compared by, in their folder.
pub(crate) fn served() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("files/1k", noise(1 << 10)),
        ("files/100k", noise(100 << 10)),
    ]
}

/// A disk that has them, for a guest that serves its disk's root as that folder.
pub(crate) fn to_serve() -> Result<Disk> {
    let files = served().into_iter().map(|(name, content)| {
        let name = name.strip_prefix("files/").unwrap_or(name);
        (name, content)
    });
    keep(
        "sample-served",
        &sample(&files.collect::<Vec<_>>())?,
        Access::Read,
    )
}

/// The SHA-256 of a file, as `sha256sum` writes it.
pub(crate) fn sum(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the partitions of the sample are, for Linux: the file system, where it
/// begins.
pub(crate) fn partitions() -> String {
    format!("vfat {FAT_AT}\next4 {EXT4_AT}\n")
}

/// A partition table of old, a FAT partition and an ext4 one, with a few files.
fn sample(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let len_bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    // The file system's own needs grow with them.
    let ext4_bytes = EXT4_BYTES + (len_bytes.saturating_sub(MIB) / 4 * 5).next_multiple_of(MIB);
    let mut image = vec![0; EXT4_AT + ext4_bytes];
    let entries = [(0x06, FAT_AT, FAT_BYTES), (0x83, EXT4_AT, ext4_bytes)];
    for (index, (kind, at, bytes)) in entries.into_iter().enumerate() {
        let entry = &mut image[446 + index * 16..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&((at / SECTOR_BYTES) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((bytes / SECTOR_BYTES) as u32).to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image[FAT_AT..][..FAT_BYTES].copy_from_slice(&fat()?);
    image[EXT4_AT..].copy_from_slice(&ext4(ext4_bytes, files)?);
    Ok(image)
}

fn fat() -> Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; FAT_BYTES]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat16)
        .bytes_per_cluster(512)
        .volume_label(*b"SAMPLE     ");
    fatfs::format_volume(&mut volume, options)?;
    let files = FileSystem::new(&mut volume, FsOptions::new())?;
    files
        .root_dir()
        .create_file("README.TXT")?
        .write_all(b"A guest may write here.\n")?;
    drop(files);
    Ok(volume.into_inner())
}

/// The files of the ext4 partition.
fn files(large_mb: usize) -> Vec<(&'static str, Vec<u8>)> {
    let numbers: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    let mut files = vec![
        ("hello.txt", b"Hello from the sample disk.\n".to_vec()),
        ("folder/inner.txt", b"A file in a folder.\n".to_vec()),
        ("numbers.txt", numbers.into_bytes()),
    ];
    if large_mb > 0 {
        files.push((LARGE, noise(large_mb * MB)));
    }
    files
}

/// Bytes of which no two pieces are alike, so that none can stand in for another
/// unseen.
fn noise(len: usize) -> Vec<u8> {
    // Marsaglia's xorshift, from any number that is not zero.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = std::iter::repeat_with(next).take(len.div_ceil(8));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

fn ext4(bytes: usize, files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let folder = run_folder()?;
    let root = folder.path().join("root");
    let mut sums = String::new();
    for (name, content) in files {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        sums.push_str(&format!("{}  {name}\n", sum(content)));
        fs::write(path, content)?;
    }
    fs::write(root.join("SHA256SUMS"), sums)?;
    let image = folder.path().join("ext4");
    File::create(&image)?.set_len(bytes as u64)?;
    let mke2fs = ["/usr/sbin/mke2fs", "/sbin/mke2fs"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(mke2fs) = mke2fs else {
        bail!("the sample disk needs mke2fs; install it with: sudo apt-get install -y e2fsprogs");
    };
    let status = Command::new(mke2fs)
        .args(["-q", "-t", "ext4", "-F", "-d"])
        .arg(&root)
        .arg(&image)
        .status()
        .context("cannot run mke2fs")?;
    ensure!(status.success(), "mke2fs failed");
    Ok(fs::read(image)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_disk() {
        let image = sample(&files(1)).unwrap();
        assert_eq!(image[510..512], [0x55, 0xaa]);
        // The magic of an ext4 file system.
        assert_eq!(image[EXT4_AT + 1024 + 56..][..2], [0x53, 0xef]);
        assert_eq!(image[FAT_AT + 510..][..2], [0x55, 0xaa]);
    }

    #[test]
    fn noise_is_as_long_as_it_is_to_be() {
        for len in [0, 1, 8, 1001] {
            assert_eq!(noise(len).len(), len);
        }
        assert_ne!(noise(16)[..8], noise(16)[8..]);
    }

    #[test]
    fn disks_are_named_on_the_command_line() {
        let disk: Disk = "a/b.img:ro".parse().unwrap();
        assert_eq!(
            (disk.path.as_path(), disk.access),
            (Path::new("a/b.img"), Access::Read)
        );
        assert_eq!("c".parse::<Disk>().unwrap().access, Access::Write);
        assert!("a,b".parse::<Disk>().is_err());
    }
}
