//! What the engine is asked to do: the plan as JSON, and the program it is compiled into.
//!
//! The JSON is made by a program, not by a person, so every field is required unless it says otherwise and an unknown
//! one is an error. Compiling checks everything that can be known before the first request: names, ranges, templates,
//! paths, expressions. Errors are one sentence that says where.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8};

use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Check, Extract};
use crate::clock::{Ns, SECOND};
use crate::feed::{Feed, FeedText};
use crate::jar::Site;
use crate::pause::{Pause, Retry};
use crate::request::{Body, Request};
use crate::schedule::{SplitMix64, Stage};
use crate::secret::Secrets;
use crate::template::{Place, Scope, Template};
use crate::upload::{FileText, Shared, Upload, UploadText};
use crate::way::Way;
use crate::websocket::Opcode;
use crate::worker::talk::{Item, Talk, Until};

/// The version of the plan's form that this engine reads.
/// 1: first version.
pub const VERSION: u32 = 1;
/// Stages that a run may have, appended ones included; the windows' keys have room for no more.
pub const MOST_STAGES: usize = 8000;

/// Streams that a connection may have; servers allow far fewer.
pub const MOST_STREAMS: u32 = 1000;

/// With a grace of at least the timeout, requests in flight at the end still end by their own timeout, also one that was
/// started a little late.
const TIMEOUT_MARGIN: Ns = SECOND;

/// The plan as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    version: u32,
    #[allow(dead_code)] // names the run in the text for whoever reads it; the headers carry it to the target
    run_id: String,
    seed: u64,
    workers: u32,
    share: Share,
    target: Target,
    headers: Vec<(String, String)>,
    timeout_ns: Ns,
    max_redirects: u32,
    max_in_flight: u32,
    grace_ns: Ns,
    max_body_bytes: u64,
    clock_monotonic_ns: Ns,
    /// When the first stage begins, in the run's time.
    #[serde(default)]
    begin_ns: Ns,
    /// What rows and readings are to name as their worker; empty for its number among all shares.
    #[serde(default)]
    worker: String,
    variables: HashMap<String, String>,
    /// More texts that nothing written down may show, such as what was made from a secret before it came here.
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    feeds: Vec<FeedText>,
    /// Files that bodies are made of.
    #[serde(default)]
    files: Vec<FileText>,
    endpoints: Vec<String>,
    #[serde(default)]
    transactions: Vec<String>,
    scenarios: Vec<ScenarioText>,
    workload: WorkloadText,
    #[serde(default)]
    connection: ConnectionText,
    #[serde(default)]
    tls: TlsText,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    index: u32,
    of: u32,
}

/// Where the requests go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    scheme: String,
    /// As the user wrote it.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// The value of the `Host` header.
    pub host_header: String,
    addresses: Vec<String>,
    /// The name asked for in the TLS handshake and looked for in the certificate; `host` where absent.
    pub sni: Option<String>,
    /// Whether certificates are accepted unseen.
    pub insecure: bool,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<String>,
}

/// How connections are made, kept and shared.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionText {
    /// Streams of a connection with HTTP/2; 0 for HTTP/1.1.
    #[serde(default)]
    streams: u32,
    /// Requests after which a connection is closed; never where absent.
    #[serde(default)]
    requests: Option<u32>,
    /// Who keeps connections; users of a closed load and the pool of an open one where absent.
    #[serde(default)]
    share: Option<Keeper>,
    #[serde(default)]
    proxy: Option<ProxyText>,
    /// A Unix socket that the target listens on.
    #[serde(default)]
    unix_socket: Option<PathBuf>,
    /// Where connections begin.
    #[serde(default)]
    source_addresses: Vec<IpAddr>,
    /// Connections that may be open at once; what the system allows where absent.
    #[serde(default)]
    most_open: Option<usize>,
}

/// Who keeps connections between requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Keeper {
    User,
    Pool,
}

/// A proxy that requests go through.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProxyText {
    addresses: Vec<String>,
    port: u16,
    /// The value of `Proxy-Authorization`.
    #[serde(default)]
    authorization: Option<String>,
}

/// How TLS is spoken. Files come as their texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsText {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<String>,
    /// The certificate (PEM) to show, with those that vouch for it.
    pub certificate: Option<String>,
    /// Its key (PEM); in the certificate's text where absent.
    pub key: Option<String>,
    /// `1.2`, `1.3`; both where empty.
    pub versions: Vec<String>,
    /// Whether sessions are resumed.
    pub resumption: bool,
}

impl Default for TlsText {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, versions: Vec::new(), resumption: true }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioText {
    name: String,
    weight: f64,
    #[serde(default)]
    think_time_ns: Option<Pause>,
    /// Spacing of the beginnings of a closed user's passes.
    #[serde(default)]
    pacing_ns: Option<Pause>,
    /// Steps that each user does once, before its first pass.
    #[serde(default)]
    once: Vec<StepText>,
    steps: Vec<StepText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    endpoint: usize,
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: Option<String>,
    /// A body made of files, in place of `body`.
    #[serde(default)]
    upload: Option<UploadText>,
    #[serde(default)]
    think_time_ns: Option<Pause>,
    #[serde(default)]
    timeout_ns: Option<Ns>,
    #[serde(default)]
    retry: Option<Retry>,
    /// What is done behind the head of the answer, where that is a conversation.
    #[serde(default)]
    talk: Option<TalkText>,
    /// Its number among the plan's transactions; steps in a row with the same number are one.
    #[serde(default)]
    transaction: Option<usize>,
    #[serde(default)]
    check: CheckText,
    #[serde(default)]
    extract: Vec<ExtractText>,
}

/// A step's conversation as it comes in. Names are of messages, as results are grouped by.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum TalkText {
    /// Server-sent events, until the first of what is given.
    Events {
        messages: Option<u64>,
        text: Option<String>,
        time_ns: Option<Ns>,
        first: String,
        next: String,
        whole: String,
    },
    /// A WebSocket.
    Socket { items: Vec<ItemText>, whole: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum ItemText {
    Send {
        text: String,
        json: bool,
    },
    /// A binary message.
    Bytes {
        hex: String,
    },
    Expect {
        name: String,
        timeout_ns: Option<Ns>,
        #[serde(default)]
        check: Box<CheckText>,
        #[serde(default)]
        extract: Vec<ExtractText>,
    },
    Listen {
        name: String,
        time_ns: Ns,
    },
    Close {
        code: u16,
    },
}

/// A step's check as it comes in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckText {
    /// Status ranges that are right, both ends included; 200–399 where absent.
    #[serde(default)]
    pub status: Option<Vec<(u16, u16)>>,
    /// The longest service time that is right; any where absent.
    #[serde(default)]
    pub time_ns: Option<Ns>,
    /// Least and greatest bytes of the body, as they came; any where absent.
    #[serde(default)]
    pub size: Option<(u64, u64)>,
    /// Templates of texts that the body must contain.
    #[serde(default)]
    pub body_contains: Vec<String>,
    /// Templates of texts that it must not contain.
    #[serde(default)]
    pub body_not: Vec<String>,
    /// Regular expressions that must be found in it.
    #[serde(default)]
    pub body_regex: Vec<String>,
    /// JSONPath expressions with what their first match is held to.
    #[serde(default)]
    pub json: Vec<JsonRuleText>,
    /// Header names with a text that one of their values must contain.
    #[serde(default)]
    pub header: Vec<(String, String)>,
}

/// JSONPath, rule and value; or JSONPath and value, which must be equal.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum JsonRuleText {
    /// As a rule says.
    Rule(String, RuleName, Value),
    /// Equal.
    Equal(String, Value),
}

/// What a value in a JSON document is held to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Equal to the value.
    Equals,
    /// There, and not equal to it.
    Not,
    /// There (true), or not there (false).
    Exists,
    /// A number above it.
    Above,
    /// A number below it.
    Below,
    /// A number not below it.
    AtLeast,
    /// A number not above it.
    AtMost,
}

impl RuleName {
    /// As it stands in the samples.
    pub fn text(self) -> &'static str {
        match self {
            Self::Equals => "equals",
            Self::Not => "not",
            Self::Exists => "exists",
            Self::Above => "above",
            Self::Below => "below",
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
        }
    }
}

/// A step's extraction as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractText {
    /// The variable's name.
    pub var: String,
    /// Which part of the answer.
    pub from: Source,
    /// JSONPath, header name, regular expression or cookie name.
    pub expr: String,
}

/// Where a variable's text is taken from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The first match of a JSONPath in the body.
    Json,
    /// A header's value.
    Header,
    /// The first group of a regular expression in the body, or all it matches where it has no group.
    Regex,
    /// A cookie that the answer sets.
    Cookie,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadText {
    model: Model,
    #[serde(default)]
    arrivals: Option<ArrivalsText>,
    stages: Vec<StageText>,
}

/// Who decides when the next request is due.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// The schedule.
    Open,
    /// The users, each when it is ready again.
    Closed,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ArrivalsText {
    Poisson,
    Uniform,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageText {
    duration_ns: Ns,
    from: f64,
    to: f64,
}

/// A plan that was found to be sound, in the form in which it is run.
#[derive(Debug)]
pub struct Program {
    /// Where the requests go.
    pub target: Target,
    /// Which way connections go.
    pub way: Way,
    /// What stands before the path in a request line: nothing, or the target where a proxy is asked for it.
    pub absolute: String,
    /// How TLS is spoken.
    pub tls_options: TlsText,
    /// Whether connections go back into a pool between requests, instead of staying with their user.
    pub pooled: bool,
    /// Requests after which a connection is closed.
    pub most_served: u32,
    /// Connections that may be open at once over all threads of this process.
    pub most_open: usize,
    /// Set by the worker that told why connections do not come about.
    pub told: AtomicBool,
    /// Whose cookies users keep.
    pub site: Site,
    /// A bit for each loss of cookies that was told.
    pub told_lost: AtomicU8,
    /// Set by the worker that told of bytes that belong to no answer.
    pub told_surplus: AtomicBool,
    /// Whether the target speaks TLS.
    pub tls: bool,
    /// `http://host:port`, to be put before a path.
    pub origin: String,
    /// Seeds the schedule, the choice of scenarios, think times and generators.
    pub seed: u64,
    /// Threads, ≥ 1.
    pub workers: u32,
    /// This process's part of the workload: (index, of).
    pub share: (u32, u32),
    /// Redirects followed for one request; 0 follows none.
    pub max_redirects: u32,
    /// Requests in flight over all threads of this process.
    pub max_in_flight: u32,
    /// How long requests in flight may go on after the last stage.
    pub grace: Ns,
    /// Streams of a connection with HTTP/2; 0 for HTTP/1.1.
    pub streams: usize,
    /// Where a body is cut off.
    pub max_body: u64,
    /// `CLOCK_MONOTONIC` at the run's time 0.
    pub anchor: Ns,
    /// When the first stage begins, in the run's time.
    pub begin: Ns,
    /// The name of this process's part; empty where its threads are known by number.
    pub worker: String,
    /// Endpoint names by number.
    pub endpoints: Vec<String>,
    /// Scenarios by number.
    pub scenarios: Vec<Scenario>,
    /// All steps of all scenarios, one scenario after the other.
    pub steps: Vec<Step>,
    /// Files that bodies are made of, open.
    pub files: Vec<Arc<Shared>>,
    /// Rows of test data by number.
    pub feeds: Vec<Feed>,
    /// Names of transactions by number.
    pub transactions: Vec<String>,
    /// Names of messages of conversations by number.
    pub messages: Vec<String>,
    /// Number of variables of all scenarios.
    pub slots: usize,
    /// What rows and exchanges must not show.
    pub secrets: Secrets,
    /// Set by a worker that found a feed without a row left: all workers end.
    pub used_up: AtomicBool,
    /// What each of `Check`'s and the engine's error numbers is called: see `answer`.
    pub check_names: Vec<String>,
    /// Open or closed.
    pub model: Model,
    /// Evenly spaced arrivals instead of Poisson's.
    pub uniform: bool,
    /// At least one.
    pub stages: Vec<Stage>,
    cumulated_weights: Vec<f64>,
}

/// A weighted flow of steps.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in the samples.
    pub name: String,
    /// Steps in `Program::steps` that each user does before its first pass, right before `steps`; often none.
    pub once: std::ops::Range<usize>,
    /// Its steps in `Program::steps`; never empty.
    pub steps: std::ops::Range<usize>,
    /// Variables that stay from pass to pass, and begin unset with `once`.
    pub kept: std::ops::Range<usize>,
    /// Variables that each pass begins without.
    pub fresh: std::ops::Range<usize>,
    /// Spacing of the beginnings of a closed user's passes.
    pub pacing: Pause,
    /// The feeds that each pass takes a row from, with the columns that go into variables: (column, slot).
    pub feeds: Vec<(usize, Vec<(usize, usize)>)>,
}

/// One request of a scenario and what is made of its answer.
#[derive(Debug)]
pub struct Step {
    /// Its endpoint's number.
    pub endpoint: usize,
    /// Its scenario's number.
    pub scenario: usize,
    /// What is sent.
    pub request: Request,
    /// URL where it is the same each time.
    pub url: Option<String>,
    /// Pause after the answer.
    pub think: Pause,
    /// Whether it is one of its scenario's `once`.
    pub once: bool,
    /// Whether and when it is tried again.
    pub retry: Option<Retry>,
    /// The conversation that it begins.
    pub talk: Option<Talk>,
    /// The transaction that it is a part of.
    pub transaction: Option<Membership>,
    /// From actual start to last byte.
    pub timeout: Ns,
    /// What a right answer looks like.
    pub check: Check,
    /// What later steps need from it.
    pub extract: Vec<Extract>,
    /// Whether the whole body must be kept until the answer is complete.
    pub needs_body: bool,
}

/// A step's place in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// Which transaction.
    pub number: usize,
    /// Whether the step before belongs to another or to none.
    pub first: bool,
    /// Whether the step behind does.
    pub last: bool,
}

impl Target {
    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The port of a URL without one.
    pub fn default_port(&self) -> u16 {
        if self.scheme == "https" { 443 } else { 80 }
    }
}

impl Plan {
    /// Reads the JSON. The error is one sentence.
    pub fn parse(json: &str) -> Result<Self, String> {
        let plan: Self =
            serde_json::from_str(json).map_err(|error| format!("the engine plan is not usable: {error}"))?;
        if plan.version != VERSION {
            return Err(format!("the engine plan has version {}, this engine reads {VERSION}", plan.version));
        }
        Ok(plan)
    }

    /// Checks the plan and compiles it. The error is one sentence that says where.
    pub fn compile(self) -> Result<Program, String> {
        let Share { index, of } = self.share;
        demand(index < of, || format!("share.index {index} must be less than share.of {of}"))?;
        demand((1..=1024).contains(&self.workers), || format!("workers {} must be 1 to 1024", self.workers))?;
        demand(self.timeout_ns > 0, || "timeout_ns must be above 0".into())?;
        demand(self.grace_ns >= 0, || "grace_ns must not be negative".into())?;
        demand(self.connection.requests != Some(0), || "connection.requests must be above 0".into())?;
        // A year, as for a stage: sums of both stay in the range of times.
        demand((0..=366 * 86_400 * SECOND).contains(&self.begin_ns), || {
            format!("begin_ns {} must be between 0 and a year", self.begin_ns)
        })?;
        demand(self.max_in_flight > 0, || "max_in_flight must be above 0".into())?;
        let streams = self.connection.streams;
        demand(streams <= MOST_STREAMS, || format!("connection.streams {streams} must be at most {MOST_STREAMS}"))?;
        let open = self.workload.model == Model::Open;
        for (fault, what) in [
            (self.connection.requests.is_some(), "requests"),
            (self.connection.proxy.is_some() && self.target.scheme == "http", "proxy, unless the target is https"),
            (open && self.connection.share == Some(Keeper::User), "share by users of an open workload"),
        ] {
            demand(!fault || streams == 0, || format!("connection: HTTP/2 does not go with {what}"))?;
        }
        demand((1..=1 << 16).contains(&self.endpoints.len()), || {
            format!("endpoints must be 1 to 65536, there are {}", self.endpoints.len())
        })?;
        let tls = match self.target.scheme.as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("target.scheme '{other}' must be http or https")),
        };
        let through_proxy = self.connection.proxy.is_some();
        let way = way(&self.target, &self.connection)?;
        let origin = format!("{}://{}", self.target.scheme, self.target.host_header);
        let stages = self.workload.stages.iter().map(|text| stage(text.duration_ns, text.from, text.to));
        let stages = stages.collect::<Result<Vec<_>, _>>()?;
        demand((1..=MOST_STAGES).contains(&stages.len()), || {
            format!("workload.stages must be 1 to {MOST_STAGES}, there are {}", stages.len())
        })?;
        let mut program = Program {
            way,
            absolute: if through_proxy && !tls { origin.clone() } else { String::new() },
            tls_options: self.tls,
            pooled: match self.connection.share {
                Some(keeper) => keeper == Keeper::Pool,
                None => self.workload.model == Model::Open,
            },
            most_served: self.connection.requests.unwrap_or(u32::MAX),
            most_open: self.connection.most_open.unwrap_or(usize::MAX),
            told: AtomicBool::new(false),
            told_surplus: AtomicBool::new(false),
            site: Site::of(&self.target),
            told_lost: AtomicU8::new(0),
            tls,
            origin,
            seed: self.seed,
            workers: self.workers,
            share: (index, of),
            max_redirects: self.max_redirects,
            max_in_flight: self.max_in_flight,
            grace: self.grace_ns,
            streams: streams as usize,
            max_body: self.max_body_bytes,
            anchor: self.clock_monotonic_ns,
            begin: self.begin_ns,
            worker: self.worker,
            scenarios: Vec::new(),
            steps: Vec::new(),
            files: self.files.iter().map(Shared::open).collect::<Result<_, _>>()?,
            feeds: Vec::new(),
            transactions: self.transactions,
            messages: Vec::new(),
            slots: 0,
            used_up: AtomicBool::new(false),
            check_names: Vec::new(),
            secrets: Secrets::among(&self.variables, &self.secrets),
            model: self.workload.model,
            uniform: self.workload.arrivals == Some(ArrivalsText::Uniform),
            stages,
            cumulated_weights: Vec::new(),
            endpoints: self.endpoints,
            target: self.target,
        };
        demand(program.transactions.len() <= 1 << 16, || "there are more than 65536 transactions".into())?;
        let mut scope = Scope { constants: self.variables, ..Scope::default() };
        for text in self.feeds {
            let number = program.feeds.len();
            let columns = text.columns.iter().enumerate();
            scope.columns.extend(columns.map(|(column, name)| (format!("{}.{name}", text.name), (number, column))));
            program.feeds.push(Feed::compile(text)?);
        }
        let mut total = 0.0;
        for scenario in self.scenarios {
            total += scenario.weight;
            demand(scenario.weight >= 0.0 && total.is_finite(), || {
                format!("scenario '{}': weight {} must be 0 or more", scenario.name, scenario.weight)
            })?;
            program.cumulated_weights.push(total);
            program.add_scenario(scenario, &self.headers, self.timeout_ns, &mut scope)?;
        }
        demand(total > 0.0, || "at least one scenario must have a weight above 0".into())?;
        let longest = program.steps.iter().map(|step| step.timeout).max().unwrap_or(0);
        program.grace = program.grace.min(longest.saturating_add(TIMEOUT_MARGIN));
        Ok(program)
    }
}

impl Program {
    /// The scenario of an iteration, by weight, from a draw of the iteration's own.
    pub fn pick_scenario(&self, draws: &mut SplitMix64) -> usize {
        if self.scenarios.len() == 1 {
            return 0;
        }
        let total = *self.cumulated_weights.last().expect("a program has a scenario");
        let at = draws.uniform() * total;
        self.cumulated_weights.partition_point(|weight| *weight < at).min(self.scenarios.len() - 1)
    }

    /// Steps of an iteration, averaged over the scenarios by weight.
    pub fn mean_steps(&self) -> f64 {
        let total = *self.cumulated_weights.last().expect("a program has a scenario");
        let befores = std::iter::once(&0.0).chain(&self.cumulated_weights);
        let weights = self.cumulated_weights.iter().zip(befores).map(|(to, from)| to - from);
        weights
            .zip(&self.scenarios)
            .map(|(weight, scenario)| weight * (scenario.once.len() + scenario.steps.len()) as f64)
            .sum::<f64>()
            / total
    }

    fn add_scenario(
        &mut self,
        text: ScenarioText,
        headers: &[(String, String)],
        timeout: Ns,
        scope: &mut Scope,
    ) -> Result<(), String> {
        let ScenarioText { name, think_time_ns: think, pacing_ns: pacing, once, steps, .. } = text;
        let place = |error| format!("scenario '{name}', {error}");
        demand(!steps.is_empty(), || place("steps must not be empty".into()))?;
        let pacing = pacing.unwrap_or(Pause::NONE);
        demand(pacing.fault().is_none(), || place(format!("pacing {}", pacing.fault().unwrap_or_default())))?;
        // A variable lives in its scenario, from the step on that follows its extraction.
        scope.slots.clear();
        scope.cells.borrow_mut().clear();
        let first_slot = scope.next_slot.get();
        let begin = self.steps.len();
        let (once_count, mut first_fresh) = (once.len(), first_slot);
        for (number, step) in once.into_iter().chain(steps).enumerate() {
            let shown = format!("step {} ({} {})", number + 1, step.method, step.path);
            let step = self
                .compile_step(step, think, headers, timeout, scope)
                .map_err(|error| place(format!("{shown}: {error}")))?;
            self.steps.push(Step { once: number < once_count, ..step });
            if number + 1 == once_count {
                first_fresh = scope.next_slot.get();
            }
        }
        self.end_transactions(begin, begin + once_count);
        self.slots = scope.next_slot.get();
        let mut feeds: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
        let mut cells: Vec<_> = scope.cells.borrow_mut().drain().collect();
        cells.sort_unstable();
        for ((feed, column), slot) in cells {
            match feeds.last_mut() {
                Some((last, columns)) if *last == feed => columns.push((column, slot)),
                _ => feeds.push((feed, vec![(column, slot)])),
            }
        }
        let (once, steps) = (begin..begin + once_count, begin + once_count..self.steps.len());
        let (kept, fresh) = (first_slot..first_fresh, first_fresh..self.slots);
        self.scenarios.push(Scenario { name, once, steps, kept, fresh, pacing, feeds });
        Ok(())
    }

    /// Marks the ends of each transaction in a scenario whose steps begin at `begin`, its own at `steps`.
    fn end_transactions(&mut self, begin: usize, steps: usize) {
        let numbers: Vec<Option<usize>> =
            self.steps.iter().map(|step| step.transaction.map(|transaction| transaction.number)).collect();
        for (at, step) in self.steps.iter_mut().enumerate().skip(begin) {
            if let Some(own) = &mut step.transaction {
                let same = |other: usize| numbers.get(other).copied().flatten() == Some(own.number);
                let (first, last) = (at == begin || at == steps || !same(at - 1), at + 1 == steps || !same(at + 1));
                (own.first, own.last) = (first, last);
            }
        }
    }

    fn compile_step(
        &mut self,
        step: StepText,
        think: Option<Pause>,
        headers: &[(String, String)],
        timeout: Ns,
        scope: &mut Scope,
    ) -> Result<Step, String> {
        let endpoints = self.endpoints.len();
        demand(step.endpoint < endpoints, || {
            format!("endpoint {} does not exist, there are {endpoints}", step.endpoint)
        })?;
        let host = &self.target.host_header;
        let body = match (&step.body, &step.upload) {
            (None, None) => Body::Nothing,
            (Some(text), None) => Body::Text(text),
            (None, Some(files)) => Body::Files(Upload::compile(files, &self.files, scope)?),
            (Some(_), Some(_)) => return Err("a step has one body".into()),
        };
        let request = Request::compile(&step.method, &step.path, host, headers, &step.headers, body, scope)?;
        let request = request.in_absolute_form(&self.absolute);
        let request = if step.talk.is_some() { request.varying() } else { request };
        let path = request.constant_path().map(String::from_utf8_lossy);
        let url = path.map(|path| format!("{}{path}", self.origin));
        let think = step.think_time_ns.or(think).unwrap_or(Pause::NONE);
        if let Some(fault) = think.fault().or(step.retry.as_ref().and_then(Retry::fault)) {
            return Err(fault);
        }
        let transactions = self.transactions.len();
        demand(step.transaction.is_none_or(|number| number < transactions), || {
            format!("the transaction does not exist, there are {transactions}")
        })?;
        let timeout = step.timeout_ns.unwrap_or(timeout);
        demand(timeout > 0, || "timeout_ns must be above 0".into())?;
        let check = Check::compile(&step.check, scope, &mut self.check_names)?;
        let mut extract = Vec::new();
        for text in &step.extract {
            let slot = match scope.slots.get(&text.var) {
                Some(slot) => *slot,
                None => scope.new_slot(),
            };
            scope.slots.insert(text.var.clone(), slot);
            extract.push(Extract::compile(text, slot)?);
        }
        demand(step.talk.is_none() || self.streams == 0, || "HTTP/2 does not carry conversations here".into())?;
        let talk = step.talk.map(|text| self.compile_talk(text, scope)).transpose()?;
        Ok(Step {
            talk,
            endpoint: step.endpoint,
            scenario: self.scenarios.len(),
            needs_body: check.needs_body() || extract.iter().any(Extract::needs_body),
            request,
            url,
            think,
            once: false,
            retry: step.retry,
            transaction: step.transaction.map(|number| Membership { number, first: true, last: true }),
            timeout,
            check,
            extract,
        })
    }
}

impl Program {
    fn compile_talk(&mut self, text: TalkText, scope: &mut Scope) -> Result<Talk, String> {
        let (items, whole) = match text {
            TalkText::Events { messages, text, time_ns, first, next, whole } => {
                demand(messages != Some(0) && time_ns.is_none_or(|time| time > 0), || {
                    "a stream of events ends after at least one message, or some time".into()
                })?;
                let text = text.map(|text| Template::compile(&text, Place::Plain, scope)).transpose()?;
                let mut number = |name| self.message(name);
                let (first, next, whole) = (number(first)?, number(next)?, number(whole)?);
                return Ok(Talk::Events(Until { messages, text, time: time_ns, first, next, whole }));
            }
            TalkText::Socket { items, whole } => (items, whole),
        };
        let mut compiled = Vec::new();
        for item in items {
            compiled.push(match item {
                ItemText::Send { text, json } => {
                    let place = if json { Place::Json } else { Place::Plain };
                    Item::Send(Opcode::Text, Template::compile(&text, place, scope)?)
                }
                ItemText::Bytes { hex } => {
                    let bytes = bytes_of_hex(&hex).ok_or("a binary message comes in as hexadecimal digits")?;
                    Item::Send(Opcode::Binary, Template::literal(bytes))
                }
                ItemText::Expect { name, timeout_ns: timeout, check, extract: texts } => {
                    demand(timeout.is_none_or(|timeout| timeout > 0), || "timeout_ns must be above 0".into())?;
                    let check = Box::new(Check::compile(&check, scope, &mut self.check_names)?);
                    let mut extract = Vec::new();
                    for text in &texts {
                        let slot = scope.slots.get(&text.var).copied().unwrap_or_else(|| scope.new_slot());
                        scope.slots.insert(text.var.clone(), slot);
                        extract.push(Extract::compile(text, slot)?);
                    }
                    Item::Expect { check, extract, timeout, message: self.message(name)? }
                }
                ItemText::Listen { name, time_ns: time } => {
                    demand(time > 0, || "time_ns must be above 0".into())?;
                    Item::Listen { time, message: self.message(name)? }
                }
                ItemText::Close { code } => Item::Close(code),
            });
        }
        Ok(Talk::Socket { items: compiled, whole: self.message(whole)? })
    }

    /// The number of a name of messages.
    fn message(&mut self, name: String) -> Result<usize, String> {
        if let Some(number) = self.messages.iter().position(|known| *known == name) {
            return Ok(number);
        }
        self.messages.push(name);
        demand(self.messages.len() <= 1 << 16, || "there are more than 65536 names of messages".into())?;
        Ok(self.messages.len() - 1)
    }
}

/// A stage, with the plan or later. The error is a sentence.
pub fn stage(duration: Ns, from: f64, to: f64) -> Result<Stage, String> {
    // A year: above it, sums of stages could leave the range of times.
    demand(0 < duration && duration <= 366 * 86_400 * SECOND, || {
        format!("a stage's duration_ns {duration} must be above 0 and at most a year")
    })?;
    demand([from, to].iter().all(|level| (0.0..=1e9).contains(level)), || {
        format!("a stage's levels {from} and {to} must be between 0 and 1e9")
    })?;
    Ok(Stage { duration, from, to })
}

fn way(target: &Target, connection: &ConnectionText) -> Result<Way, String> {
    demand(target.port > 0, || "target.port must not be 0".into())?;
    let sources = &connection.source_addresses;
    match (&connection.unix_socket, &connection.proxy) {
        (None, None) => Way::to(&addresses("target", &target.addresses, target.port)?, sources),
        (None, Some(proxy)) => {
            let authority = match target.host.as_str() {
                host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{}", target.port),
                host => format!("{host}:{}", target.port),
            };
            let addresses = addresses("connection.proxy", &proxy.addresses, proxy.port)?;
            Ok(Way::to(&addresses, sources)?.through_proxy(&authority, proxy.authorization.as_deref()))
        }
        (Some(path), None) if sources.is_empty() => Ok(Way::into_socket(path.clone())),
        (Some(_), _) => Err("connection: a Unix socket has no proxy and no source addresses".into()),
    }
}

fn addresses(whose: &str, texts: &[String], port: u16) -> Result<Vec<SocketAddr>, String> {
    let parse = |text: &String| match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, port)),
        Err(_) => Err(format!("{whose}.addresses: '{text}' is not an IP address")),
    };
    let addresses = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    demand(port > 0 && !addresses.is_empty(), || format!("{whose} needs a port and at least one address"))?;
    Ok(addresses)
}

/// None where it is not pairs of hexadecimal digits.
fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn demand(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}
