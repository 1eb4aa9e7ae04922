//! The files of a disk, as the server gives them.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use ext4_view::{Ext4, Ext4Error};
use pv_guest::{
    adapt::{
        blocking,
        ext4_files::{self, Body},
        ext4_view::Cached,
    },
    blkfront::{Config, Disk, SECTOR_BYTES, Sector, Volume},
    println,
    xenbus::Bus,
};

use crate::memory::Memory;

/// Where an ext4 file system has its magic number, and which.
const MAGIC_OFFSET: u64 = 1024 + 56;
const MAGIC: [u8; 2] = [0x53, 0xef];
/// Where a partition table has its entries.
const TABLE_OFFSET: usize = 446;
const ENTRY_BYTES: usize = 16;

/// What is at a path.
pub(crate) enum Found {
    /// A file.
    File(Body),
    /// A folder: its page.
    Folder(String),
}

/// The first ext4 file system of the first disk that has one.
pub(crate) struct Files {
    files: Option<ext4_files::Files>,
    pub(crate) disk: Option<Disk<'static>>,
}

impl Files {
    /// Those of a disk, of which as much is kept as there is memory for.
    pub(crate) async fn load(
        bus: Bus<'static>,
        memory: &Memory,
    ) -> Result<Self, Box<dyn core::error::Error>> {
        for id in bus.devices("vbd").await? {
            let disk = Disk::new(bus, id.as_str(), Config::default());
            let whole = Volume::whole(&disk).await?;
            for volume in volumes(&whole).await? {
                let mut magic = [0; 2];
                volume.read_at(MAGIC_OFFSET, &mut magic).await?;
                if magic == MAGIC {
                    let volume = Cached::new(blocking(volume), memory.kept_pieces());
                    let files = Ext4::load(Box::new(volume))?;
                    println!("web: the files of disk {id}");
                    return Ok(Self {
                        files: Some(ext4_files::Files::new(files, memory.kept_bytes())),
                        disk: Some(disk),
                    });
                }
            }
        }
        println!("web: no disk with files: give this guest one with --disk FILE");
        Ok(Self {
            files: None,
            disk: None,
        })
    }

    /// What is at a path; `None`: nothing, or not to be read.
    pub(crate) fn find(&self, path: &str) -> Option<Found> {
        let files = self.files.as_ref()?;
        match files.open(path) {
            Ok(body) => Some(Found::File(body)),
            Err(Ext4Error::IsADirectory) => {
                let page = folder(files.file_system(), path);
                page.ok().map(Found::Folder)
            }
            Err(_) => None,
        }
    }
}

/// The whole disk, if it has no partitions, or they.
async fn volumes(
    whole: &Volume<'static>,
) -> Result<Vec<Volume<'static>>, pv_guest::blkfront::Error> {
    let mut sector = [0; SECTOR_BYTES];
    whole.read_at(0, &mut sector).await?;
    let all = whole.part(Sector(0), whole.sectors())?;
    let mut volumes = Vec::from([all]);
    if sector.ends_with(&[0x55, 0xaa]) {
        let table = sector.get(TABLE_OFFSET..SECTOR_BYTES - 2).unwrap_or(&[]);
        for entry in table.chunks_exact(ENTRY_BYTES) {
            let number = |at: usize| {
                let bytes = entry.get(at..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
            };
            if let Ok(volume) = whole.part(Sector(number(8)), number(12)) {
                volumes.push(volume);
            }
        }
    }
    // Those too small for a file system have none.
    volumes.retain(|volume| volume.sectors() > 8);
    Ok(volumes)
}

/// A page with the entries of a folder.
fn folder(files: &Ext4, path: &str) -> Result<String, Ext4Error> {
    let mut rows = Vec::new();
    for entry in files.read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "." || name == ".." || name == "lost+found" {
            continue;
        }
        let data = entry.metadata()?;
        let name = name.display().to_string();
        let end = if data.is_dir() { "/" } else { "" };
        let (shown, link) = (escape(&name), encode(&name));
        let row = format!(
            "<tr><td><a href=\"{link}{end}\">{shown}{end}</a><td>{}\n",
            data.len()
        );
        rows.push((!data.is_dir(), name, row));
    }
    rows.sort_unstable();
    let rows: String = rows.into_iter().map(|(_, _, row)| row).collect();
    let title = escape(path);
    Ok(format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title>\
         <link rel=stylesheet href=/style.css><h1>{title}</h1>\
         <p><a href=/>about this server</a>\n<table><tr><th>name<th>bytes\n{rows}</table>\n"
    ))
}

/// A name as HTML has it.
fn escape(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        match letter {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
    }
    text
}

/// A name as a URL has it.
fn encode(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
