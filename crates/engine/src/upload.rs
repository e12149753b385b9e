//! Bodies made of files: read in bounded pieces while they are sent, never held whole.
//!
//! A file is opened once, when the plan is compiled, and shared by all users; each request under way reads it by position
//! into a piece of its own, which lives until the body has been sent. What a body of any size costs is that piece.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::sync::Arc;

use serde::Deserialize;

use crate::outcome::Kind;
use crate::template::{Filling, Missing, Place, Scope, Template};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;
/// Bodies up to here are kept in memory with the request, as other bodies are.
pub const SMALL: u64 = 64 * 1024;

/// A file that bodies are made of, as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileText {
    path: String,
    /// Its length in bytes, which it must still have.
    length: u64,
}

/// A body as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadText {
    #[serde(default)]
    chunked: bool,
    parts: Vec<PartText>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PartText {
    Text { text: String, place: PlaceName },
    File { file: usize },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceName {
    Plain,
    Json,
    Form,
}

/// A file that is open.
#[derive(Debug)]
pub struct Shared {
    file: File,
    length: u64,
}

impl Shared {
    /// Opens a file. The error is a sentence.
    pub fn open(text: &FileText) -> Result<Arc<Self>, String> {
        let said = |error: io::Error| format!("the file '{}' cannot be read: {error}", text.path);
        let file = File::open(&text.path).map_err(said)?;
        let found = file.metadata().map_err(said)?;
        if !found.is_file() || found.len() != text.length {
            return Err(format!("'{}' is not the file of {} bytes that it was", text.path, text.length));
        }
        Ok(Arc::new(Self { file, length: text.length }))
    }

    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, at)
    }

    #[cfg(not(unix))]
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut own = self.file.try_clone()?;
        own.seek(io::SeekFrom::Start(at))?;
        own.read(buffer)
    }

    fn whole(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = (&self.file).rewind().and_then(|()| (&self.file).take(self.length).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 == self.length => Ok(bytes),
            Ok(_) => Err("a file became shorter".into()),
            Err(error) => Err(format!("a file cannot be read: {error}")),
        }
    }
}

/// A step's body, compiled.
#[derive(Debug)]
pub struct Upload {
    parts: Vec<Part>,
    chunked: bool,
}

#[derive(Debug)]
enum Part {
    Text(Template),
    File(Arc<Shared>),
}

impl Upload {
    /// Compiles a body out of texts and `files`. The error is a sentence.
    pub fn compile(text: &UploadText, files: &[Arc<Shared>], scope: &Scope) -> Result<Arc<Self>, String> {
        let compile = |part: &PartText| match part {
            PartText::Text { text, place } => {
                let place = match place {
                    PlaceName::Plain => Place::Plain,
                    PlaceName::Json => Place::Json,
                    PlaceName::Form => Place::Form,
                };
                Template::compile(text, place, scope).map(Part::Text)
            }
            PartText::File { file } => match files.get(*file) {
                Some(file) => Ok(Part::File(file.clone())),
                None => Err(format!("file {file} does not exist, there are {}", files.len())),
            },
        };
        let parts = text.parts.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { parts, chunked: text.chunked }))
    }

    /// The same as a template, where it is small and its length is told beforehand; the files are read for it.
    pub fn small(&self) -> Result<Option<Template>, String> {
        let length = self.parts.iter().map(|part| match part {
            Part::Text(_) => 0,
            Part::File(file) => file.length,
        });
        if self.chunked || length.sum::<u64>() > SMALL {
            return Ok(None);
        }
        let mut all = Template::default();
        for part in &self.parts {
            all.push(match part {
                Part::Text(text) => text.clone(),
                Part::File(file) => Template::literal(file.whole()?),
            });
        }
        Ok(Some(all))
    }

    /// A body for one request, its texts filled.
    pub fn begin(self: &Arc<Self>, filling: &mut Filling<'_>) -> Result<Box<Outgoing>, Missing> {
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        for part in &self.parts {
            if let Part::Text(text) = part {
                text.fill(filling, &mut texts)?;
            }
            ends.push(texts.len());
        }
        Ok(Box::new(Outgoing {
            upload: self.clone(),
            chunked: self.chunked,
            texts,
            ends,
            part: 0,
            at: 0,
            piece: Vec::new(),
            done: 0,
            ended: false,
            broken: false,
        }))
    }
}

/// The body of one request under way.
#[derive(Debug)]
pub struct Outgoing {
    upload: Arc<Upload>,
    chunked: bool,
    /// The filled texts one after the other, and where the one of each part ends.
    texts: Vec<u8>,
    ends: Vec<usize>,
    /// What is read next.
    part: usize,
    at: u64,
    /// What is sent now, and how much of it has been.
    piece: Vec<u8>,
    done: usize,
    ended: bool,
    broken: bool,
}

impl Outgoing {
    /// The header line that says how long the body is.
    pub fn header(&self) -> String {
        if self.upload.chunked {
            return "Transfer-Encoding: chunked\r\n".to_owned();
        }
        let files = self.upload.parts.iter().map(|part| match part {
            Part::Text(_) => 0,
            Part::File(file) => file.length,
        });
        format!("Content-Length: {}\r\n", self.texts.len() as u64 + files.sum::<u64>())
    }

    /// Leaves chunks out, for who has frames of its own.
    pub fn leave_unframed(&mut self) {
        self.chunked = false;
    }

    /// Whether a file could not be read to its end.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The bytes to be sent next; none when all have been.
    pub fn piece(&mut self) -> Result<&[u8], Kind> {
        if self.done == self.piece.len() && !self.ended {
            self.next_piece()?;
        }
        Ok(&self.piece[self.done..])
    }

    /// So many bytes of the piece have been sent.
    pub fn advance(&mut self, size: usize) {
        self.done += size;
    }

    fn next_piece(&mut self) -> Result<(), Kind> {
        // Room in front for the size of the chunk, which is known afterwards.
        const FRONT: usize = 8;
        let chunked = self.chunked;
        let front = if chunked { FRONT } else { 0 };
        self.piece.resize(front + PIECE, 0);
        let mut end = front;
        while end < front + PIECE && self.part < self.upload.parts.len() {
            let begin = self.part.checked_sub(1).map_or(0, |before| self.ends[before]);
            let (length, size) = match &self.upload.parts[self.part] {
                Part::Text(_) => {
                    let rest = &self.texts[begin + self.at as usize..self.ends[self.part]];
                    let size = rest.len().min(front + PIECE - end);
                    self.piece[end..end + size].copy_from_slice(&rest[..size]);
                    ((self.ends[self.part] - begin) as u64, size)
                }
                Part::File(file) => {
                    let room = (front + PIECE - end).min((file.length - self.at).min(PIECE as u64) as usize);
                    match file.read_at(&mut self.piece[end..end + room], self.at) {
                        Ok(0) if room > 0 => return Err(self.fail()),
                        Ok(size) => (file.length, size),
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => return Err(self.fail()),
                    }
                }
            };
            (end, self.at) = (end + size, self.at + size as u64);
            if self.at == length {
                (self.part, self.at) = (self.part + 1, 0);
            }
        }
        self.piece.truncate(end);
        self.ended = self.part == self.upload.parts.len();
        self.done = 0;
        if chunked {
            self.frame(front);
        }
        Ok(())
    }

    /// Makes a chunk of what was read behind `front`, and the last chunk where it is the last.
    fn frame(&mut self, front: usize) {
        let size = self.piece.len() - front;
        self.done = front;
        if size > 0 {
            let line = format!("{size:x}\r\n");
            self.done = front - line.len();
            self.piece[self.done..front].copy_from_slice(line.as_bytes());
            self.piece.extend_from_slice(b"\r\n");
        }
        if self.ended {
            self.piece.extend_from_slice(b"0\r\n\r\n");
        }
    }

    fn fail(&mut self) -> Kind {
        self.broken = true;
        Kind::BodyUnread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::SplitMix64;
    use crate::template::Slot;
    use std::io::Write;

    fn file(name: &str, content: &[u8]) -> FileText {
        let path = std::env::temp_dir().join(format!("surgeline-{}-{name}", std::process::id()));
        File::create(&path).unwrap().write_all(content).unwrap();
        FileText { path: path.to_string_lossy().into_owned(), length: content.len() as u64 }
    }

    fn upload(json: serde_json::Value, files: &[Arc<Shared>]) -> Result<Arc<Upload>, String> {
        let scope = Scope { slots: [("id".to_owned(), 0)].into(), ..Scope::default() };
        Upload::compile(&serde_json::from_value(json).unwrap(), files, &scope)
    }

    fn sent(upload: &Arc<Upload>, step: usize) -> (String, Vec<u8>) {
        let slots = [Slot { set: true, text: b"5".to_vec() }];
        let mut draws = SplitMix64::new(1);
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        let mut outgoing = upload.begin(&mut filling).unwrap();
        let mut all = Vec::new();
        loop {
            let piece = outgoing.piece().unwrap();
            assert!(piece.len() <= PIECE + 32);
            if piece.is_empty() {
                return (outgoing.header(), all);
            }
            let size = piece.len().min(step);
            all.extend_from_slice(&piece[..size]);
            outgoing.advance(size);
        }
    }

    /// However the socket takes them, the bytes are texts and files in their order, as long as was announced; as chunks
    /// they are the same, and a body without bytes has its last chunk.
    #[test]
    fn pieces_are_the_body() {
        let big: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
        let texts = [file("big", &big), file("empty", b"")];
        let files: Vec<_> = texts.iter().map(|text| Shared::open(text).unwrap()).collect();
        let parts = serde_json::json!([{"text": "<{{id}}>", "place": "plain"}, {"file": 0}, {"file": 1},
            {"text": "</>", "place": "plain"}]);
        let body = [b"<5>", &big[..], b"</>"].concat();
        let whole = upload(serde_json::json!({"parts": parts}), &files).unwrap();
        for step in [1 << 20, 1000] {
            assert_eq!(sent(&whole, step), (format!("Content-Length: {}\r\n", body.len()), body.clone()));
        }
        assert!(whole.small().unwrap().is_none());
        let chunked = upload(serde_json::json!({"parts": parts, "chunked": true}), &files).unwrap();
        let (header, wire) = sent(&chunked, 777);
        assert_eq!(header, "Transfer-Encoding: chunked\r\n");
        let mut read = Vec::new();
        let end = crate::http1::Chunks::default().read(&wire, |part| read.extend_from_slice(part));
        assert_eq!((end.unwrap(), read), (Some(wire.len()), body));
        let nothing = upload(serde_json::json!({"parts": [{"file": 1}], "chunked": true}), &files).unwrap();
        assert_eq!(sent(&nothing, 9).1, b"0\r\n\r\n");
    }

    /// A small body is a template like others; a file that is not what it was is refused, and one that becomes shorter
    /// while it is sent breaks that request.
    #[test]
    fn files_are_what_they_were() {
        let mut text = file("small", b"content");
        let shared = Shared::open(&text).unwrap();
        let small = upload(serde_json::json!({"parts": [{"file": 0}]}), std::slice::from_ref(&shared)).unwrap();
        assert_eq!(small.small().unwrap().unwrap().constant(), Some(&b"content"[..]));
        assert!(upload(serde_json::json!({"parts": [{"file": 1}]}), &[]).is_err());
        let slots = [];
        let mut draws = SplitMix64::new(1);
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        let mut outgoing = small.begin(&mut filling).unwrap();
        File::create(&text.path).unwrap();
        assert_eq!(outgoing.piece(), Err(Kind::BodyUnread));
        assert!(outgoing.is_broken());
        assert!(Shared::open(&text).is_err());
        text.path.push('x');
        assert!(Shared::open(&text).unwrap_err().contains("cannot be read"));
    }
}
