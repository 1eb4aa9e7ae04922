//! What is where on this server.

use alloc::{rc::Rc, string::String, vec};

use picoserve::{
    ResponseSent,
    io::{Read, Write},
    request::{Path, Request},
    response::{Content, IntoResponse, Response, ResponseWriter, StatusCode},
    routing::PathRouterService,
};

use pv_guest::adapt::ext4_files;

use crate::{
    files::{Files, Found},
    status::Status,
};

/// Where the files are.
const FILES: &str = "/files";

/// All that there is.
pub(crate) struct Site {
    files: Files,
    status: Rc<Status>,
}

impl Site {
    pub(crate) const fn new(files: Files, status: Rc<Status>) -> Self {
        Self { files, status }
    }

    fn find(&self, path: &str) -> Option<Body> {
        let text = |kind, text| Some(Body::Page(kind, text));
        match path {
            "/" => text(
                "text/html; charset=utf-8",
                include_str!("index.html").into(),
            ),
            "/style.css" => text("text/css", include_str!("style.css").into()),
            "/status.json" => text(
                "application/json",
                self.status.json(self.files.disk.as_ref()),
            ),
            _ => {
                let name = path.strip_prefix(FILES)?;
                match self.files.find(if name.is_empty() { "/" } else { name })? {
                    Found::Folder(page) => text("text/html; charset=utf-8", page),
                    Found::File(file) => Some(Body::File(kind(name), file)),
                }
            }
        }
    }
}

impl PathRouterService for Site {
    async fn call_path_router_service<R: Read, W: ResponseWriter<Error = R::Error>>(
        &self,
        _state: &(),
        _parameters: (),
        path: Path<'_>,
        request: Request<'_, R>,
        response: W,
    ) -> Result<ResponseSent, W::Error> {
        let found = decode(path.encoded()).and_then(|path| self.find(&path));
        let connection = request.body_connection.finalize().await?;
        let _counted = self.status.answer();
        match found {
            Some(body) => Response::ok(body).write_to(connection, response).await,
            None => {
                let body = Body::Page("text/plain", "there is nothing here\n".into());
                let missing = Response::new(StatusCode::NOT_FOUND, body);
                missing.write_to(connection, response).await
            }
        }
    }
}

/// What is sent.
enum Body {
    /// A text of this kind.
    Page(&'static str, String),
    /// A file of this kind.
    File(&'static str, ext4_files::Body),
}

impl Content for Body {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Page(kind, _) | Self::File(kind, ..) => kind,
        }
    }

    fn content_length(&self) -> usize {
        match self {
            Self::Page(_, text) => text.len(),
            Self::File(_, file) => usize::try_from(file.len_bytes()).unwrap_or(usize::MAX),
        }
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        match self {
            Self::Page(_, text) => writer.write_all(text.as_bytes()).await,
            Self::File(_, ext4_files::Body::Kept(content)) => writer.write_all(&content).await,
            Self::File(_, ext4_files::Body::Streamed(mut file)) => loop {
                let count = writer.write_with(|mut room| {
                    // What cannot be read is not sent: the client sees that it is short.
                    let count = file.read(room.as_mut_slice()).unwrap_or(0);
                    room.advance(count);
                    count
                });
                if count.await? == 0 {
                    return Ok(());
                }
            },
        }
    }
}

/// The kind of a file, by its name.
fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A path without `%20` and the like; `None`: it is no text.
fn decode(encoded: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push((high << 4 | low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
