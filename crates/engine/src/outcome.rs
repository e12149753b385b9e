//! What became of a request that was due, and by which kind.

/// The six outcomes, with their numbers in the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The answer was right.
    Ok = 0,
    /// An answer came and was wrong: its status or a check.
    Failure = 1,
    /// The transport broke.
    Error = 2,
    /// No whole answer in time.
    Timeout = 3,
    /// Due, but the generator could not send it.
    NotSent = 4,
    /// In flight when the run ended.
    Aborted = 5,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $word:literal $outcome:ident,)*) => {
        /// Why a request did not end well, each with its outcome.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// Its word in the samples.
            pub fn word(self) -> &'static str {
                match self { $(Kind::$kind => $word,)* }
            }

            /// The outcome that it makes.
            pub fn outcome(self) -> Outcome {
                match self { $(Kind::$kind => Outcome::$outcome,)* }
            }
        }
    };
}

kinds! {
    /// Nothing listens, or the way there is closed.
    ConnectRefused "connect_refused" Error,
    /// No connection, or no TLS session, in time.
    ConnectTimeout "connect_timeout" Timeout,
    /// The connection was reset while it came about.
    ConnectReset "connect_reset" Error,
    /// The generator has no local port left for this target.
    ClientPorts "client_ports" NotSent,
    /// The generator has no descriptor left.
    ClientFds "client_fds" NotSent,
    /// The proxy did not open the way to the target: its answer to CONNECT is not 200.
    ProxyRefused "proxy_refused" Error,
    /// The TLS handshake broke off.
    TlsHandshake "tls_handshake" Error,
    /// The certificate was not trusted.
    TlsCertificate "tls_certificate" Error,
    /// The request could not be written to a new connection.
    WriteFailed "write_failed" Error,
    /// A connection that had served before was gone before the first byte of the answer.
    StaleConnection "stale_connection" Error,
    /// The connection was reset before the end of the answer's head, or closed before its first byte.
    ResetBeforeHeaders "reset_before_headers" Error,
    /// The connection was closed within the answer's head.
    ShortHead "short_head" Error,
    /// The connection was reset within the body.
    ResetMidBody "reset_mid_body" Error,
    /// The body ended before its announced length.
    ShortBody "short_body" Error,
    /// No whole head in time.
    HeaderTimeout "header_timeout" Timeout,
    /// No whole body in time.
    BodyTimeout "body_timeout" Timeout,
    /// Time ran out after a redirect.
    TotalTimeout "total_timeout" Timeout,
    /// What came is not HTTP/1.
    InvalidHttp "invalid_http" Error,
    /// Bytes that begin no answer came on a connection that had served before: what the answer before had too many, or an
    /// answer that is no HTTP.
    Surplus "surplus" Error,
    /// The head is longer than 256 kB, or has more than 4,096 lines.
    HeaderTooLarge "header_too_large" Error,
    /// The body is longer than the plan allows.
    BodyTooLarge "body_too_large" Error,
    /// The chunks of the body are broken, or end before the last.
    BadChunk "bad_chunk" Error,
    /// The server does not speak HTTP/2: it did not choose it in the TLS handshake, or did not begin with it.
    NoHttp2 "no_http2" Error,
    /// Frames that HTTP/2 does not allow, or not there.
    Http2Protocol "http2_protocol" Error,
    /// A frame of a size that HTTP/2 does not allow.
    Http2FrameSize "http2_frame_size" Error,
    /// Fields that cannot be read (HPACK).
    Http2Compression "http2_compression" Error,
    /// More bytes than there was room for, or room for more than there can be.
    Http2FlowControl "http2_flow_control" Error,
    /// Frames without end that no answer needs.
    Http2Flood "http2_flood" Error,
    /// The server gave the connection up (GOAWAY) and left this request undone.
    Http2Goaway "http2_goaway" Error,
    /// The server refused the stream (REFUSED_STREAM) before it did anything.
    Http2Refused "http2_refused" Error,
    /// The server reset the stream.
    Http2Reset "http2_reset" Error,
    /// More redirects than the plan allows.
    RedirectLoop "redirect_loop" Failure,
    /// A redirect to another origin, or to none.
    RedirectRefused "redirect_refused" Failure,
    /// Due while as many requests were in flight as the plan allows.
    InFlightLimit "in_flight_limit" NotSent,
    /// A later step needs what this answer did not contain.
    ExtractMissing "extract_missing" Failure,
    /// The body's content coding is unknown or broken, or what it stands for is longer than checks may look at.
    BadEncoding "bad_encoding" Failure,
    /// A check, or an extractor, could not see the whole body, which was longer than is kept, or for which there was no
    /// room beside others: whether the answer was right is not known. No verdict about the server.
    BodyNotKept "body_not_kept" Error,
    /// A file of the request's body could not be read to its end while it was sent.
    BodyUnread "body_unread" Error,
    /// The answer to a WebSocket's opening is no agreement to speak it: its key, or its headers, are wrong.
    BadUpgrade "bad_upgrade" Error,
    /// The answer to a step of events is no stream of them.
    NotEvents "not_events" Failure,
    /// A frame that WebSocket does not allow, or that uses what nobody asked for.
    BadFrame "bad_frame" Error,
    /// A WebSocket's message of text that is not UTF-8.
    BadUtf8 "bad_utf8" Error,
    /// A message longer than 1 MiB.
    MessageTooLarge "message_too_large" Error,
    /// The server ended a conversation that was not over.
    ClosedEarly "closed_early" Error,
    /// A message that was waited for has not come in time.
    MessageTimeout "message_timeout" Timeout,
    /// The server has not answered the closing of a WebSocket in time.
    CloseTimeout "close_timeout" Timeout,
    /// A fault of the engine's own.
    EngineFault "engine_fault" Error,
}

/// The `error` of a sample as a number: nothing, a kind, a wrong status, or a check of the plan that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

const STATUS: u32 = 1 << 16;
const CHECK: u32 = 1 << 17;

impl Reason {
    /// Nothing to say.
    pub const NONE: Self = Self(0);

    /// A kind.
    pub fn kind(kind: Kind) -> Self {
        Self(1 + kind as u32)
    }

    /// A status that is not among the right ones.
    pub fn status(status: u16) -> Self {
        Self(STATUS | u32::from(status))
    }

    /// The check with this number in `Program::check_names`.
    pub fn check(number: usize) -> Self {
        Self(CHECK | number as u32)
    }

    /// The text in the samples.
    pub fn text(self, check_names: &[String]) -> String {
        match self.0 {
            0 => String::new(),
            code if code & CHECK != 0 => format!("check {}", check_names[(code & !CHECK) as usize]),
            code if code & STATUS != 0 => format!("status {}", code & !STATUS),
            code => Kind::ALL[code as usize - 1].word().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason has its own number and comes back as its own text.
    #[test]
    fn reasons_keep_apart() {
        let names = ["time".to_owned()];
        assert_eq!(Reason::NONE.text(&names), "");
        assert_eq!(Reason::status(500).text(&names), "status 500");
        assert_eq!(Reason::check(0).text(&names), "check time");
        for kind in Kind::ALL {
            assert_eq!(Reason::kind(*kind).text(&names), kind.word());
        }
    }
}
