//! The initial domain's file system, in memory: Xen's toolstack and no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use crate::xen_machine::cpio::Archive;

/// Kernel modules that dom0 loads; what they need comes with them.
const MODULES: [&str; 20] = [
    "xenfs",
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "xen-netback",
    "loop",
    "brd",
    "dm_mod",
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "bridge",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
];

const XEN_TOOLS: [&str; 9] = [
    "xl",
    "xenstored",
    "xenconsoled",
    "xenconsole",
    "xen-init-dom0",
    "libxl-save-helper",
    "xentrace",
    "xenctx",
    "xenstore-control",
];

/// Linux's own: shells of scripts, and what makes and checks disks.
const TOOLS: [&str; 5] = ["bash", "ip", "dmsetup", "e2fsck", "fsck.fat"];

/// What the store's tool is called by: it does what its name says.
const STORE_TOOLS: [&str; 8] = [
    "read", "write", "list", "ls", "exists", "rm", "chmod", "watch",
];

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const FOLDERS: [&str; 26] = [
    "bin",
    "sbin",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "etc",
    "etc/xen",
    "etc/xen/auto",
    "etc/xen/scripts",
    "root",
    "job",
    "lib",
    "lib/modules",
    "usr",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    LIBRARIES,
    "var",
    "var/log",
    "var/log/xen",
    "var/lib",
    "var/lib/xen",
    "mnt",
];

const INIT: &str = include_str!("../../dom0/init");
const BLOCK_SCRIPT: &str = include_str!("../../dom0/block");
const NETWORK_SCRIPT: &str = include_str!("../../dom0/vif");

/// What changes the image, for the key of what is kept.
pub(crate) fn inputs() -> String {
    format!(
        "{INIT}{BLOCK_SCRIPT}{NETWORK_SCRIPT}{MODULES:?}{XEN_TOOLS:?}{TOOLS:?}{STORE_TOOLS:?}{FOLDERS:?}"
    )
}

/// Makes the archive.
pub(crate) fn build(tree: &Path) -> Result<Vec<u8>> {
    let xen = xen_folder(tree)?;
    let mut image = Image {
        tree,
        xen: xen.clone(),
        files: BTreeMap::new(),
        folders: FOLDERS.iter().map(|folder| (*folder).to_owned()).collect(),
    };
    for tool in XEN_TOOLS {
        let path = format!("{xen}/bin/{tool}");
        if tree.join(&path).exists() {
            image.program(&path)?;
        }
    }
    for tool in fs::read_dir(tree.join("usr/lib/xen-common/bin"))? {
        image.program(&format!(
            "usr/lib/xen-common/bin/{}",
            tool?.file_name().to_string_lossy()
        ))?;
    }
    for name in TOOLS {
        let places = ["usr/bin", "usr/sbin", "bin", "sbin"].map(|place| format!("{place}/{name}"));
        let place = places.iter().find(|place| tree.join(place).exists());
        image.program(place.with_context(|| format!("the packages have no {name}"))?)?;
    }
    image.program("usr/bin/xenstore")?;
    image.file(&format!("{LIBRARIES}/libgcc_s.so.1"))?;
    image.file(&format!("{LIBRARIES}/ld-linux-x86-64.so.2"))?;
    image.all_files(&format!("{xen}/lib"))?;
    image.file("usr/bin/busybox")?;
    image.file("etc/xen/xl.conf")?;
    let (order, modules) = modules(tree, &MODULES)?;

    let mut archive = Archive::default();
    for folder in &image.folders {
        archive.directory(folder);
    }
    archive.link("lib64", "usr/lib/x86_64-linux-gnu");
    archive.link("lib/x86_64-linux-gnu", "../usr/lib/x86_64-linux-gnu");
    archive.link("var/run", "/run");
    archive.link("var/lock", "/run/lock");
    archive.link("bin/busybox", "/usr/bin/busybox");
    for applet in applets(tree)? {
        if !TOOLS.contains(&applet.as_str()) && !["busybox", "modprobe"].contains(&applet.as_str())
        {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
    }
    for tool in STORE_TOOLS {
        archive.link(&format!("bin/xenstore-{tool}"), "/usr/bin/xenstore");
    }
    for (name, content) in &image.files {
        archive.file(name, 0o755, content);
    }
    for (name, content) in &modules {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, content);
    }
    archive.file("lib/modules/order", 0o644, order.join("\n").as_bytes());
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    let init = INIT.replace("@XEN@", &format!("/{xen}"));
    archive.file("etc/xen/scripts/block", 0o755, BLOCK_SCRIPT.as_bytes());
    archive.file("etc/xen/scripts/vif", 0o755, NETWORK_SCRIPT.as_bytes());
    archive.file("init", 0o755, init.as_bytes());
    Ok(archive.finish())
}

/// A program of another tree's, by its name there, with all that it needs to be loaded.
pub(crate) fn program(tree: &Path, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut image = Image {
        tree,
        xen: String::new(),
        files: BTreeMap::new(),
        folders: BTreeSet::new(),
    };
    image.program(name)?;
    image.file(&format!("{LIBRARIES}/ld-linux-x86-64.so.2"))?;
    Ok(image.files)
}

/// The folder of the toolstack's own version, `usr/lib/xen-4.20` say.
fn xen_folder(tree: &Path) -> Result<String> {
    for entry in fs::read_dir(tree.join("usr/lib"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("xen-4") {
            return Ok(format!("usr/lib/{name}"));
        }
    }
    bail!("the packages have no toolstack")
}

fn applets(tree: &Path) -> Result<Vec<String>> {
    let output = Command::new(tree.join("usr/bin/busybox"))
        .arg("--list")
        .output()
        .context("cannot run busybox")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

struct Image<'a> {
    tree: &'a Path,
    xen: String,
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Image<'_> {
    /// A file of the tree's, by its name there.
    fn file(&mut self, name: &str) -> Result<()> {
        let path = self.tree.join(name);
        let content = fs::read(&path).with_context(|| format!("the packages have no {name}"))?;
        let mut folder = Path::new(name).parent();
        while let Some(path) = folder.filter(|path| !path.as_os_str().is_empty()) {
            self.folders.insert(path.to_string_lossy().into_owned());
            folder = path.parent();
        }
        self.files.insert(name.to_owned(), content);
        Ok(())
    }

    fn all_files(&mut self, folder: &str) -> Result<()> {
        for entry in fs::read_dir(self.tree.join(folder))? {
            let entry = entry?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                self.all_files(&name)?;
            } else if entry.path().exists() {
                self.file(&name)?;
            }
        }
        Ok(())
    }

    /// A program or script, with the libraries that it needs.
    fn program(&mut self, name: &str) -> Result<()> {
        self.file(name)?;
        let mut wanted = self.needed(name);
        while let Some(library) = wanted.pop() {
            let places = [
                format!("{LIBRARIES}/{library}"),
                format!("{}/lib/x86_64-linux-gnu/{library}", self.xen),
                format!("{}/lib/{library}", self.xen),
            ];
            let Some(place) = places.iter().find(|place| self.tree.join(place).exists()) else {
                bail!("{name} needs {library}, which the packages do not have");
            };
            if !self.files.contains_key(place) {
                self.file(place)?;
                wanted.extend(self.needed(place));
            }
        }
        Ok(())
    }

    /// The libraries that a file names; none if it is no program.
    fn needed(&self, name: &str) -> Vec<String> {
        self.files
            .get(name)
            .and_then(|content| needed_libraries(content))
            .unwrap_or_default()
    }
}

/// The `DT_NEEDED` entries of an ELF file.
fn needed_libraries(content: &[u8]) -> Option<Vec<String>> {
    use object::{
        elf::{DT_NEEDED, FileHeader64},
        read::elf::{Dyn, ElfFile64, FileHeader},
    };
    let file = ElfFile64::<object::Endianness>::parse(content).ok()?;
    let header: &FileHeader64<object::Endianness> = file.elf_header();
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, content).ok()?;
    let (dynamic, link) = sections.dynamic(endian, content).ok()??;
    let strings = sections.strings(endian, content, link).ok()?;
    let names = dynamic
        .iter()
        .filter(|entry| entry.tag32(endian) == Some(DT_NEEDED))
        .filter_map(|entry| entry.string(endian, strings).ok())
        .map(|name| String::from_utf8_lossy(name).into_owned());
    Some(names.collect())
}

pub(crate) type Modules = Vec<(String, Vec<u8>)>;

/// Modules with those that they need, unpacked, and the order in which they
/// load.
pub(crate) fn modules(tree: &Path, wanted: &[&str]) -> Result<(Vec<String>, Modules)> {
    let mut places = BTreeMap::new();
    for root in ["lib/modules", "usr/lib/modules"] {
        find_modules(&tree.join(root), &mut places)?;
    }
    let mut loaded = Modules::new();
    for module in wanted {
        load(module, &places, &mut loaded)?;
    }
    let order = loaded.iter().map(|(name, _)| name.clone()).collect();
    Ok((order, loaded))
}

fn find_modules(folder: &Path, places: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            find_modules(&path, places)?;
        } else if let Some((name, "")) | Some((name, ".xz")) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once(".ko"))
        {
            places.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn load(module: &str, places: &BTreeMap<String, PathBuf>, loaded: &mut Modules) -> Result<()> {
    let name = module.replace('-', "_");
    if loaded.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let Some(path) = places.get(&name) else {
        // Built into the kernel.
        return Ok(());
    };
    let content = if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").args(["-dc"]).arg(path).output();
        output.context("cannot run xz")?.stdout
    } else {
        fs::read(path)?
    };
    for dependency in dependencies(&content)? {
        load(&dependency, places, loaded)?;
    }
    loaded.push((name, content));
    Ok(())
}

/// The modules that a module says it needs.
fn dependencies(content: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(content).context("a module is no ELF file")?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let data = section.data()?;
    Ok(data
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}
