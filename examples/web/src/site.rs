//! What is where on this server.

use alloc::{boxed::Box, rc::Rc, string::String, vec};

use ext4_view::File;
use picoserve::{
    ResponseSent,
    io::{Read, Write},
    request::{Path, Request},
    response::{Content, IntoResponse, Response, ResponseWriter, StatusCode},
    routing::PathRouterService,
};

use crate::{
    files::{Files, Found},
    status::Status,
};

/// Where the files are.
const FILES: &str = "/files";
/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 16 << 10;

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
                    Found::File(file, len) => Some(Body::File(kind(name), file, len)),
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
    /// A file of this kind, of so many bytes.
    File(&'static str, Box<File>, usize),
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
            Self::File(_, _, len) => *len,
        }
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        match self {
            Self::Page(_, text) => writer.write_all(text.as_bytes()).await,
            Self::File(_, mut file, len) => {
                let mut piece = vec![0; PIECE_BYTES];
                let mut rest = len;
                while rest > 0 {
                    let count = fill(&mut file, &mut piece).min(rest);
                    // What cannot be read is not sent: the client sees that it
                    // is short.
                    let Some(part @ [_, ..]) = piece.get(..count) else {
                        break;
                    };
                    writer.write_all(part).await?;
                    rest -= part.len();
                }
                Ok(())
            }
        }
    }
}

/// Reads as much as there is room for, or left; says how much. The file system gives
/// a block at a time, and the network stack has work with each piece.
fn fill(file: &mut File, piece: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = piece.get_mut(filled..) {
        let Ok(count @ 1..) = file.read_bytes(rest) else {
            break;
        };
        filled += count;
    }
    filled
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
