//! Finds the rule of a request: the first rule that fits, without a look at each rule.
//!
//! Every rule is a bit. Each dimension of a request (path, host, method, route, cluster, headers)
//! is looked up once, which gives the set of rules that fit it. The first bit that is in all of
//! these sets is the rule. Sets are bit vectors with a summary of their words ("aggregated bit
//! vector", Baboescu and Varghese, SIGCOMM 2001), so that a thousand rules are a few words to look
//! at.

mod header;
mod host;
mod map;
mod path;
mod regex;
mod set;
mod steps;

use meshtrace_config::ConfigError;
use meshtrace_headers::{Headers, path_of};

use header::{HeaderMap, Values};
use host::HostMap;
use map::ByteMap;
use path::PathTree;
use set::{RuleSet, Union};
use steps::Steps;

pub(crate) use header::{HeaderPattern, ValuePattern};
pub(crate) use host::HostPattern;
pub(crate) use path::PathPattern;
pub(crate) use regex::Regexes;
pub(crate) use set::MAX_RULES;

/// The parts of a request that conditions look at. An unknown part fits no condition on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestView<'a> {
    /// `:method`.
    pub method: Option<&'a [u8]>,
    /// `:path`, with its query.
    pub path: Option<&'a [u8]>,
    /// `:authority`, with its port.
    pub authority: Option<&'a [u8]>,
    /// The name of the route that Envoy chose.
    pub route: Option<&'a [u8]>,
    /// The cluster that Envoy chose.
    pub cluster: Option<&'a [u8]>,
    /// All headers.
    pub headers: Headers<'a>,
}

impl<'a> RequestView<'a> {
    /// Reads the view from `headers`, in one pass.
    #[must_use]
    pub fn of(headers: Headers<'a>) -> Self {
        let mut view = Self {
            headers,
            ..Self::default()
        };
        for (name, value) in &headers {
            let place = match name {
                b":method" => &mut view.method,
                b":path" => &mut view.path,
                b":authority" => &mut view.authority,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        view
    }
}

/// The conditions of one rule. All conditions that are set must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) path: Option<PathPattern>,
    /// Whether a regular expression is for the path, in place of `path`.
    pub(crate) has_regex: bool,
    pub(crate) methods: Vec<Box<[u8]>>,
    pub(crate) host: Option<HostPattern>,
    pub(crate) headers: Vec<HeaderPattern>,
    pub(crate) route: Option<Box<[u8]>>,
    pub(crate) cluster: Option<ValuePattern>,
}

/// The compiled conditions of all rules.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    paths: PathTree,
    regexes: Regexes,
    hosts: HostMap,
    methods: Names,
    routes: Names,
    clusters: Clusters,
    first_headers: HeaderMap,
    /// The headers of each rule. The header that is in `first_headers` comes first.
    headers: Vec<Vec<HeaderPattern>>,
}

/// Rules by a name that must be equal.
#[derive(Clone, Debug)]
struct Names {
    names: ByteMap<RuleSet>,
    any: RuleSet,
}

impl Matcher {
    /// Compiles the conditions of all rules, in their order. There are at most [`MAX_RULES`].
    #[inline(never)]
    pub(crate) fn build(rules: &[Conditions], regexes: Regexes) -> Result<Self, ConfigError> {
        let numbered = || rules.iter().enumerate();
        let without = |is_set: fn(&Conditions) -> bool| -> Vec<usize> {
            let without = numbered().filter(|(_, rule)| !is_set(rule));
            without.map(|(i, _)| i).collect()
        };
        let paths: Vec<_> = numbered()
            .filter_map(|(i, rule)| Some((i, rule.path.as_ref()?)))
            .collect();
        let any_path = without(|rule| rule.path.is_some() || rule.has_regex);
        let hosts: Vec<_> = numbered()
            .filter_map(|(i, rule)| Some((i, rule.host.as_ref()?)))
            .collect();
        let first_headers: Vec<_> = numbered()
            .filter_map(|(i, rule)| Some((i, rule.headers.first()?)))
            .collect();
        let name = |name: fn(&Conditions) -> Option<&[u8]>| {
            Names::build(rules, |rule| name(rule).into_iter().collect())
        };
        let paths = PathTree::build(&any_path, &paths)?;
        Ok(Self {
            paths,
            regexes,
            hosts: HostMap::build(&without(|rule| rule.host.is_some()), &hosts),
            methods: Names::build(rules, |rule| {
                rule.methods.iter().map(|method| &**method).collect()
            }),
            routes: name(|rule| rule.route.as_deref()),
            clusters: Clusters::build(rules),
            first_headers: HeaderMap::build(
                &without(|rule| !rule.headers.is_empty()),
                &first_headers,
            ),
            headers: rules.iter().map(|rule| rule.headers.clone()).collect(),
        })
    }

    /// The first rule that `request` fits.
    pub(crate) fn first(&self, request: &RequestView<'_>) -> Option<usize> {
        self.find(request, &mut ())
    }

    /// As [`first`](Self::first), with the number of steps that it took.
    pub(crate) fn first_counting(&self, request: &RequestView<'_>) -> (Option<usize>, u64) {
        let mut steps = 0_u64;
        let rule = self.find(request, &mut steps);
        (rule, steps)
    }

    fn find(&self, request: &RequestView<'_>, steps: &mut impl Steps) -> Option<usize> {
        let path = path_of(request.path.unwrap_or_default());
        let mut tree = Union::default();
        self.paths.add(path, &mut tree, steps);
        let regexes = self.regexes.matching(path, steps);
        let host = self
            .hosts
            .rules(request.authority.unwrap_or_default(), steps);
        let names = [
            self.methods.rules(request.method, steps),
            self.routes.rules(request.route, steps),
            self.clusters.rules(request.cluster, steps),
        ];
        let headers = self.first_headers.matching(&request.headers, steps);

        let mut words = (tree.summary() | regexes.summary())
            & host.summary()
            & headers.summary()
            & names.iter().fold(u64::MAX, |all, set| all & set.summary());
        while words != 0 {
            let index = words.trailing_zeros();
            words &= words - 1;
            steps.step();
            let mut rules = (tree.word(index) | regexes.word(index))
                & host.word(index)
                & headers.word(index)
                & names
                    .iter()
                    .fold(u64::MAX, |all, set| all & set.word(index));
            while rules != 0 {
                let bit = rules.trailing_zeros();
                rules &= rules - 1;
                steps.step();
                let rule = usize::try_from(index * 64 + bit).unwrap_or(usize::MAX);
                if self.fits_headers(rule, &request.headers, headers.is_unknown) {
                    return Some(rule);
                }
            }
        }
        None
    }

    /// Checks the headers that the sets do not contain: all headers of the rule but the first one.
    fn fits_headers(&self, rule: usize, headers: &Headers<'_>, also_first: bool) -> bool {
        let Some(patterns) = self.headers.get(rule) else {
            return false;
        };
        let told = usize::from(!also_first);
        patterns
            .iter()
            .skip(told)
            .all(|pattern| pattern.fits(headers))
    }
}

/// Rules by the name of Envoy's cluster.
#[derive(Clone, Debug)]
enum Clusters {
    /// Every name must be equal.
    Equal(Names),
    /// Some names must only begin alike. The rules without a cluster fit every name.
    Beginning(Values),
}

impl Clusters {
    #[inline(never)]
    fn build(rules: &[Conditions]) -> Self {
        let begins = |rule: &Conditions| matches!(rule.cluster, Some(ValuePattern::Prefix(_)));
        if !rules.iter().any(begins) {
            return Self::Equal(Names::build(rules, |rule| match &rule.cluster {
                Some(ValuePattern::Exact(name)) => vec![name],
                _ => Vec::new(),
            }));
        }
        let (mut any, mut patterns) = (Vec::new(), Vec::new());
        for (i, rule) in rules.iter().enumerate() {
            match &rule.cluster {
                Some(pattern) => patterns.push((i, pattern)),
                None => any.push(i),
            }
        }
        Self::Beginning(Values::build(&any, &patterns, &mut ()))
    }

    fn rules(&self, cluster: Option<&[u8]>, steps: &mut impl Steps) -> &RuleSet {
        match self {
            Self::Equal(names) => names.rules(cluster, steps),
            Self::Beginning(names) => match cluster {
                Some(cluster) => names.rules(cluster, steps),
                None => &names.present,
            },
        }
    }
}

impl Names {
    #[inline(never)]
    fn build(rules: &[Conditions], asked: impl Fn(&Conditions) -> Vec<&[u8]>) -> Self {
        let numbered = || rules.iter().enumerate();
        let any = numbered().filter(|(_, rule)| asked(rule).is_empty());
        let any = RuleSet::of(any.map(|(i, _)| i));
        let mut names: ByteMap<RuleSet> = ByteMap::default();
        for (i, rule) in numbered() {
            for name in asked(rule) {
                names.change(name, || any.clone(), |rules| rules.insert(i));
            }
        }
        Self { names, any }
    }

    fn rules(&self, name: Option<&[u8]>, steps: &mut impl Steps) -> &RuleSet {
        match name {
            Some(name) if !self.names.is_empty() => {
                steps.step();
                self.names.get(name).unwrap_or(&self.any)
            }
            _ => &self.any,
        }
    }
}
