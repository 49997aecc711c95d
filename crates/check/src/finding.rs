//! Findings, and the table of all of them.

use std::fmt;

use crate::document::{Node, Position};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something does not work: it is refused, broken, or has no effect.
    Error,
    /// Something works otherwise than it looks, or not always.
    Warning,
    /// Something that is useful to know.
    Note,
}

impl Level {
    /// The level as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! codes {
    ($($name:ident $number:literal $level:ident $title:literal,)*) => {
        /// The code of a finding. A code is never used again for another finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `MT` and three digits.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("MT", $number),)* }
            }

            /// The severity of the finding.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            /// The finding in a few words: the title of its section in docs/troubleshooting.md.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    // Files.
    Syntax "001" Error "The file is neither YAML nor JSON",
    NothingKnown "002" Note "Nothing in the file is known to meshtrace",
    WhichFilter "003" Note "The configuration fits several filters",
    // A plugin's configuration.
    NotJson "010" Error "The configuration is not JSON",
    UnknownKey "011" Error "A key that the filter does not know",
    WrongValue "012" Error "A value that the filter does not accept",
    Refused "013" Error "The filter refuses the configuration",
    Struct "014" Error "The configuration is a Struct",
    DoesNothing "015" Warning "The filter does nothing",
    KeyTwice "016" Error "A key stands twice in one map",
    MissingKey "017" Error "A required key is missing",
    MissingVariable "018" Warning "A variable of the environment is missing",
    UnknownFilter "019" Warning "An image of meshtrace that is not a filter",
    // Where filters stand.
    Rerouted "020" Warning "An edit may send requests to another route",
    BehindRouter "021" Error "A filter stands behind the router",
    UpstreamInListener "022" Error "The placement is upstream, in a listener's filters",
    DownstreamInUpstream "023" Error "The placement is downstream, among upstream filters",
    SameName "024" Warning "Two plugins have one name in one VM",
    CodecNotLast "025" Error "The list of upstream filters does not end with the codec",
    OneJobTwice "026" Warning "Two filters do one job on one proxy",
    // Beside the proxy's own tracer.
    ContextBesideTracer "030" Warning "trace_context in front of a tracer that overwrites it",
    WrongTracer "031" Error "The tracer is another one",
    IncomingTooLate "032" Warning "`incoming` comes too late",
    TwoTracers "033" Warning "mesh_tracing reports beside the proxy's own tracer",
    EarlyOrder "034" Warning "Early header mutations in the wrong order",
    SamplingSettings "035" Warning "route_sampling without its settings",
    ParentFormats "036" Warning "route_sampling reads parents that the tracer does not",
    LogTracer "037" Warning "access_log_trace is told another tracer than there is",
    // Attributes and tags.
    NoTag "040" Warning "An attribute that no tag reads",
    TagWithoutWasm "041" Warning "A tag reads filter state without `wasm.`",
    WithoutPlain "042" Warning "Filter state is read without `:PLAIN`",
    NobodyWrites "043" Warning "Filter state is read that nobody writes",
    // The access log.
    IdsWithoutStep "050" Warning "`ids` without the step that writes them",
    StepWithoutRemoval "051" Warning "The step lets a client's own ids pass",
    LogWithoutFilter "052" Warning "The access log reads ids, and no filter writes them",
    // Sampling rules.
    Shadowed "060" Warning "A rule that can never decide",
    PlainRatio "061" Note "A ratio of 0 or 1",
    ParentTooLate "062" Warning "`parent` is decided before the filter",
    OneInAHundred "063" Note "One trace in a hundred is reported",
    // The report of mesh_tracing.
    NoCluster "070" Error "The collector's cluster does not exist",
    NotHttp2 "071" Error "gRPC to a cluster that speaks HTTP/1",
    OriginalDst "072" Error "The collector's cluster has no endpoints of its own",
    RoleContradicts "073" Warning "The role contradicts the listener",
    PortContradicts "074" Warning "The collector's port is the other protocol's",
    ServiceLacks "075" Error "The collector's Service does not fit",
    NativeExport "076" Warning "The native tracer has nothing that exports",
    // Loading a module.
    FailsRequests "080" Warning "A module that is missing fails requests",
    Placeholder "081" Warning "A placeholder stands where your registry or digest belongs",
    NobodyFetches "082" Error "A URL that nobody fetches here",
    BadDigest "083" Error "A malformed digest",
    HeaderLimit "084" Warning "`max_headers_count` leaves no room for what is added",
    SwitchedOff "085" Note "A filter is switched off",
    // Versions.
    SpanIdTooEarly "090" Error "`%SPAN_ID%` before Envoy 1.38",
    TagTooEarly "091" Error "A tag reads filter state before Envoy 1.37",
    ExtensionTooEarly "092" Error "TrafficExtension before Istio 1.30",
    FallbackTooEarly "093" Error "An upstream filter's fallback that the Envoy refuses",
    OutsideVersions "094" Warning "A version that the filters are not tested with",
    FieldTooEarly "095" Error "A field that the version does not know",
    // In a mesh.
    SelectsNothing "100" Warning "A label that no workload has",
    OneKey "101" Warning "Two needs with one label key",
    WaypointSelector "102" Warning "A waypoint is selected by its labels",
    NoPriority "103" Warning "EnvoyFilters without an order",
    TwoTelemetries "104" Warning "Two Telemetry resources where Istio takes one",
    UnknownProvider "105" Warning "A Telemetry names a provider that does not exist",
    // A running proxy: its filters.
    NotInForce "110" Error "A configuration that is not in force",
    UpdateRejected "111" Error "Envoy rejected an update",
    NotLoaded "112" Error "A filter that is not loaded",
    CountersHidden "113" Warning "The counters of the filters are hidden",
    ModuleFails "114" Error "A module that Envoy cannot fetch or run",
    HostErrors "115" Warning "Envoy refuses calls of a filter",
    NoRoom "116" Warning "A request without room for what a filter writes",
    NoFilter "117" Warning "The proxy has none of the filters",
    // A running proxy: its export of spans.
    SpansRefused "120" Error "The collector refuses spans",
    NothingExported "121" Error "Spans do not reach the collector",
    ExportsRepeated "122" Warning "Some exports fail and are repeated",
    QueueFull "123" Warning "Spans are dropped because the queue is full",
    NothingSampled "124" Note "No span is exported because nothing is sampled",
    // A running proxy: its requests.
    NoRequest "130" Note "No request came while the counters were watched",
    PassedBy "131" Warning "Requests pass the filters by",
    AllMalformed "132" Warning "No trace context that arrives is valid",
    NoContext "133" Note "No request brings a trace context",
    AllDropped "134" Warning "Sampling drops every request",
    AllKept "135" Note "Sampling keeps every request",
    CopiesNoContext "136" Warning "The application copies no trace header",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A finding, and its position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The place of the file among the given files.
    pub(crate) input: usize,
    /// Its line, from 1.
    pub line: u32,
    /// Its column, from 1.
    pub column: u32,
    /// The code of the finding.
    pub code: Code,
    /// The severity.
    pub level: Level,
    /// The name of its file, as it was given.
    pub file: String,
    /// The keys and list places that lead to the value.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            code,
            level,
            file,
            message,
            ..
        } = self;
        write!(f, "{level} {code} {file}:{line}:{column} ")?;
        match self.short_path() {
            path if path.is_empty() => f.write_str(message),
            path => write!(f, "{path}: {message}"),
        }
    }
}

impl Finding {
    /// The end of the path that has room in a line.
    #[must_use]
    pub fn short_path(&self) -> String {
        const ROOM: usize = 48;
        if self.path.chars().count() <= ROOM {
            return self.path.clone();
        }
        // A step begins after a dot that is not within the quotes of a key.
        let mut is_quoted = false;
        let starts = self.path.char_indices().filter_map(|(place, letter)| {
            is_quoted ^= letter == '"';
            (letter == '.' && !is_quoted).then_some(place + 1)
        });
        let fits = |start: &usize| {
            let end = self.path.get(*start..).unwrap_or_default();
            end.chars().count() <= ROOM
        };
        let starts: Vec<_> = starts.collect();
        let start = starts.iter().copied().find(fits).or(starts.last().copied());
        let end = self.path.get(start.unwrap_or(0)..).unwrap_or_default();
        if end.len() == self.path.len() {
            return self.path.clone();
        }
        format!("…{end}")
    }
}

/// A position for a finding.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) input: usize,
    pub(crate) at: Position,
    pub(crate) path: String,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) all: Vec<(Code, Place, String)>,
}

impl Findings {
    /// Adds a finding at a value. Where the value is a collection, the position is that of its key.
    pub(crate) fn add(&mut self, code: Code, node: Node<'_>, message: impl Into<String>) {
        let is_collection = node.is_map() || node.is_list();
        let at = if is_collection {
            node.key_position()
        } else {
            node.position()
        };
        self.add_at(code, node.input(), at, node.path(), message.into());
    }

    pub(crate) fn add_at(
        &mut self,
        code: Code,
        input: usize,
        at: Position,
        path: String,
        message: String,
    ) {
        let place = Place { input, at, path };
        self.all.push((code, place, in_one_line(message)));
    }
}

/// The text with control characters, which may come from the file, as escapes.
fn in_one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}
