//! A web server to compare with: nginx, as Debian has it, in the Linux guest.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    build::{disk, packages},
    folders,
    xen_machine::{cpio::Archive, dom0},
};

const CONFIGURATION: &str = "\
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    server {
        listen 80;
        listen [::]:80;
        root /srv;
    }
}
";

/// Adds it, with the files that it serves, to a file system in memory.
pub(crate) fn add(archive: &mut Archive) -> Result<()> {
    let tree = {
        let _lock = folders::lock()?;
        packages::ensure_nginx()?
    };
    let files: BTreeMap<String, Vec<u8>> = dom0::program(&tree, "usr/sbin/nginx")?;
    for folder in [
        "usr",
        "usr/sbin",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "etc",
        "srv",
        "srv/files",
        "run",
        "var",
        "var/log",
        "var/log/nginx",
        "var/lib",
        "var/lib/nginx",
        "tmp",
    ] {
        archive.directory(folder);
    }
    archive.link("lib64", "usr/lib/x86_64-linux-gnu");
    for (name, content) in &files {
        archive.file(name, 0o755, content);
    }
    for (name, content) in disk::served() {
        archive.file(&format!("srv/{name}"), 0o644, &content);
    }
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/:/bin/sh\nnobody:x:99:99::/:/bin/sh\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:99:\n");
    archive.file("etc/nginx.conf", 0o644, CONFIGURATION.as_bytes());
    Ok(())
}
