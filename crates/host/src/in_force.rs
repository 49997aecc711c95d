//! Which plugin configurations are in force: one list in the shared data, for all VMs of one
//! `vm_id`.
//!
//! The VM that loads a configuration first decides which configuration runs, and writes the
//! decision to the list. The other VMs read the decision and follow it. So all workers agree, and
//! only one of them logs it. Envoy's main thread comes first: it tries a configuration in a VM of
//! its own, and deletes this VM without a callback.
//!
//! A plugin is identified by the values that a root context can read: the filter, and Envoy's
//! `name` and `root_id`. By Envoy's API these two together are one plugin (`PluginConfig.name`: "a
//! unique name"). The listener, its direction and its metadata can be read only in requests. Where
//! the names are not unique, the following signs show it, and no plugin gets the configuration of
//! another plugin:
//!
//! - without a name, an update of a plugin cannot be distinguished from a second plugin;
//! - a configuration that no worker has loaded yet when the next one comes (two plugins of one
//!   bootstrap) is not in force, so the next one is not its update, unless it is itself an update
//!   of what is in force;
//! - two different configurations that are in force at once are two plugins;
//! - a root context with a bad configuration takes a good one that came later only where that one
//!   has served requests too: see [`served`](crate::served).

use std::cell::{Cell, RefCell};

use crate::call;
use crate::served;
use crate::status::Status;

/// The name of the list in the shared data.
const LIST: &[u8] = b"meshtrace.plugins";

/// A configuration that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The digest that identifies the plugin.
    pub(crate) plugin: u64,
    /// The digest of the configuration that the plugin was given.
    pub(crate) given: u64,
    /// The module that loaded the configuration: an old VM that ends must not change the entry of
    /// the new one.
    pub(crate) module: u64,
    /// The configuration that runs: the given one, the last good one, or 0, which is none.
    pub(crate) runs: u64,
    /// How many VMs have loaded the configuration, without the VM in which Envoy only tries it. For
    /// an update of what is in force it is at least [`LOADS_IN_FORCE`].
    loads: u64,
}

/// The number of fields of an [`Entry`].
const FIELDS: usize = 5;
/// A configuration is in force after the main thread's VM and one VM of a worker have loaded it.
const LOADS_IN_FORCE: u64 = 2;

impl Entry {
    pub(crate) fn new(plugin: u64, given: u64, module: u64) -> Self {
        Self {
            plugin,
            given,
            module,
            runs: given,
            loads: 0,
        }
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.runs != self.given
    }

    /// Whether it runs what `other` runs, as a configuration of the same name.
    fn runs_as(&self, other: &Self) -> bool {
        (self.plugin, self.runs) == (other.plugin, other.runs)
    }

    /// Whether it is a configuration of `plugin` that a worker has loaded.
    fn is_in_force(&self, plugin: u64) -> bool {
        self.plugin == plugin && self.loads >= LOADS_IN_FORCE
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.plugin, self.given, self.module) == (other.plugin, other.given, other.module)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        for number in [self.plugin, self.given, self.module, self.runs, self.loads] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, _) = bytes.as_chunks::<8>();
        let [plugin, given, module, runs, loads] = *numbers.first_chunk::<FIELDS>()?;
        Some(Self {
            plugin: u64::from_le_bytes(plugin),
            given: u64::from_le_bytes(given),
            module: u64::from_le_bytes(module),
            runs: u64::from_le_bytes(runs),
            loads: u64::from_le_bytes(loads),
        })
    }
}

/// The data of a configuration when it is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenConfiguration {
    pub(crate) entry: Entry,
    /// Whether the plugin has a name. Without a name it is not identified.
    pub(crate) is_named: bool,
    /// Whether the configuration is valid for the filter.
    pub(crate) is_good: bool,
}

/// The decision about a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadDecision {
    /// The configuration to run, or 0.
    pub(crate) runs: u64,
    /// Whether this VM is the first one that loads the change.
    pub(crate) is_new: bool,
    /// Whether it may be an update: a configuration of a plugin of this name, or of none, is in
    /// force.
    pub(crate) may_update: bool,
    pub(crate) invalid: Invalid,
}

/// The new values of the gauges; `None` leaves a gauge as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Invalid {
    /// Whether any plugin runs without the configuration that it was given.
    pub(crate) any: Option<bool>,
    /// Whether the plugin itself does.
    pub(crate) own: Option<bool>,
}

impl Invalid {
    /// Both gauges have this value.
    pub(crate) fn both(is_invalid: bool) -> Self {
        Self {
            any: Some(is_invalid),
            own: Some(is_invalid),
        }
    }

    /// Compares the list before a change of `plugin` with the list after it. A gauge stays as it is
    /// where nothing is invalid and nothing was before: the lists of other `vm_id`s may have
    /// another result.
    fn compare(before: &[Entry], after: &[Entry], plugin: u64) -> Self {
        let value = |is_counted: fn(&Entry, u64) -> bool| {
            let is_invalid = |list: &[Entry]| {
                list.iter()
                    .any(|entry| is_counted(entry, plugin) && entry.is_invalid())
            };
            let is_now = is_invalid(after);
            (is_now || is_invalid(before)).then_some(is_now)
        };
        Self {
            any: value(|_, _| true),
            own: value(|entry, plugin| entry.plugin == plugin),
        }
    }
}

thread_local! {
    /// The root contexts of this VM, the newest last.
    static ROOTS: RefCell<Vec<Root>> = const { RefCell::new(Vec::new()) };
    /// Whether this VM has loaded a configuration. It is not set in the VM in which Envoy only
    /// tries one.
    static IS_USED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy, Debug)]
struct Root {
    context: u32,
    entry: Entry,
    /// A good configuration of the same name that came later. It is to run in the place of what runs
    /// where it is of the same plugin.
    successor: Option<Entry>,
    /// The mark of its last request, while there is a root context that waits. 0 is none.
    mark: u64,
}

fn with_roots<T: Default>(with: impl FnOnce(&mut Vec<Root>) -> T) -> T {
    // Natively a thread's end may come before a root context's.
    ROOTS
        .try_with(|roots| {
            roots
                .try_borrow_mut()
                .ok()
                .map(|mut roots| with(&mut roots))
        })
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Enters the configuration that the root context `context` is given, and decides what runs.
pub(crate) fn enter(context: u32, given: GivenConfiguration) -> Result<LoadDecision, Status> {
    // Envoy makes a root context for each configuration; one that is configured again is the same
    // plugin for certain.
    let previous = with_roots(|roots| {
        let position = roots.iter().position(|root| root.context == context)?;
        Some(roots.remove(position).entry)
    });
    let first_load = u64::from(IS_USED.try_with(|used| used.replace(true)).unwrap_or(true));
    let mut entry = given.entry;
    let mut decision = LoadDecision::default();
    let decided = change(&mut |before, list| {
        entry = given.entry;
        if let Some(previous) = previous {
            list.retain(|other| !other.is_same(&previous));
        }
        decision.may_update = list.iter().any(|other| other.is_in_force(entry.plugin));
        let known = list.iter_mut().find(|other| other.is_same(&entry));
        decision.is_new = known.is_none();
        if let Some(known) = known {
            known.loads += 1;
            entry.runs = known.runs;
        } else {
            let replaced = match previous {
                None if given.is_named => take_replaced(list, entry.plugin),
                previous => previous,
            };
            if !given.is_good {
                entry.runs = replaced.map_or(0, |replaced| replaced.runs);
            }
            // An update of what is in force is the same plugin, although no worker has loaded it
            // yet: the next update may be faster.
            entry.loads = replaced.map_or(first_load, |_| LOADS_IN_FORCE);
            list.push(entry);
        }
        decision.invalid = Invalid::compare(before, list, entry.plugin);
    });
    if decided.is_err() {
        // The decision of the other VMs is not known. A configuration runs only where it is surely
        // this plugin's.
        entry.runs = match (given.is_good, previous) {
            (true, _) => entry.given,
            (false, Some(previous)) => previous.runs,
            (false, None) => 0,
        };
    }
    decision.runs = entry.runs;
    with_roots(|roots| {
        if !entry.is_invalid() {
            let list = decided.as_deref().unwrap_or_default();
            let is_listed = |entry: &Entry| list.iter().any(|other| other.is_same(entry));
            for root in roots.iter_mut() {
                let own = &root.entry;
                if own.plugin == entry.plugin && own.is_invalid() && !is_listed(own) {
                    root.successor = Some(entry);
                }
            }
        }
        roots.push(Root {
            context,
            entry,
            successor: None,
            mark: 0,
        });
    });
    decided.map(|_| decision)
}

/// The configuration of the root context `context`.
pub(crate) fn entry(context: u32) -> Option<Entry> {
    with_roots(|roots| {
        let root = roots.iter().find(|root| root.context == context);
        root.map(|root| root.entry)
    })
}

/// Removes the configuration that a new configuration of `plugin` updates from the list, and
/// returns it: the only configuration that is in force under the plugin's name.
fn take_replaced(list: &mut Vec<Entry>, plugin: u64) -> Option<Entry> {
    let in_force = |entry: &&Entry| entry.is_in_force(plugin);
    let replaced = *list.iter().rfind(in_force)?;
    if list
        .iter()
        .filter(in_force)
        .any(|other| other.given != replaced.given)
    {
        return None;
    }
    list.retain(|entry| !in_force(&entry));
    Some(replaced)
}

/// The changes that the end of a root context causes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    pub(crate) invalid: Invalid,
    /// The configuration of the same plugin that Envoy uses again without a callback.
    pub(crate) returned: Option<Entry>,
    /// The configuration that the root context ran, when no plugin runs it any more.
    pub(crate) forgotten: Option<Entry>,
}

/// Removes the configuration of the root context `context`, unless another one of this VM has it
/// too.
pub(crate) fn leave(context: u32) -> Option<Result<Left, Status>> {
    let (gone, rest) = with_roots(|roots| {
        let position = roots.iter().position(|root| root.context == context)?;
        let gone = roots.remove(position).entry;
        let of_the_plugin = roots.iter().map(|root| root.entry);
        let of_the_plugin = of_the_plugin.filter(|entry| entry.plugin == gone.plugin);
        Some((gone, of_the_plugin.collect::<Vec<_>>()))
    })?;
    if rest.iter().any(|entry| entry.is_same(&gone)) {
        return None;
    }
    let mut left = Left::default();
    let changed = change(&mut |before, list| {
        list.retain(|entry| !entry.is_same(&gone));
        // Envoy keeps a root context as long as a listener of it drains, and uses it again where
        // the same configuration comes back.
        let is_listed = list.iter().any(|entry| entry.plugin == gone.plugin);
        left.returned = rest.last().copied().filter(|_| !is_listed);
        list.extend(left.returned.map(|entry| Entry {
            loads: LOADS_IN_FORCE,
            ..entry
        }));
        let is_run = |entry: &Entry| (entry.plugin, entry.runs) == (gone.plugin, gone.runs);
        left.forgotten = Some(gone).filter(|gone| gone.runs != 0 && !list.iter().any(is_run));
        left.invalid = Invalid::compare(before, list, gone.plugin);
    });
    Some(changed.map(|_| left))
}

/// Returns, once, the good configuration that came after the one of the root context `context`, where
/// it is of the same plugin: not of one that serves this request too, and `is_own` says so.
pub(crate) fn successor(context: u32, is_own: fn(&Entry, &Entry) -> bool) -> Option<Entry> {
    with_roots(|roots| {
        let mut waiting = roots.iter().filter(|root| root.context == context);
        let good = waiting.next()?.successor?;
        let mark = served::mark();
        let is_beside = roots
            .iter()
            .any(|root| root.mark == mark && root.entry.runs_as(&good));
        let root = roots.iter_mut().find(|root| root.context == context)?;
        root.mark = mark;
        let own = root.entry;
        let good = root
            .successor
            .take_if(|good| is_beside || is_own(&own, good));
        good.filter(|_| !is_beside)
    })
}

/// The configuration that the root context `context` runs, where another root context waits for it that
/// does not serve this request too.
pub(crate) fn awaited(context: u32) -> Option<Entry> {
    with_roots(|roots| {
        let own = roots.iter().find(|root| root.context == context)?.entry;
        let awaits = |root: &Root| root.successor.is_some_and(|good| own.runs_as(&good));
        if !roots.iter().any(awaits) {
            return None;
        }
        let mark = served::mark();
        for root in roots.iter_mut() {
            if root.context == context {
                root.mark = mark;
            } else if root.mark == mark && awaits(root) {
                root.successor = None;
            }
        }
        roots.iter().any(awaits).then_some(own)
    })
}

/// Changes the list. Returns the list after the change.
#[inline(never)]
fn change(with: &mut dyn FnMut(&[Entry], &mut Vec<Entry>)) -> Result<Vec<Entry>, Status> {
    let mut list = Vec::new();
    call::update_shared_data(LIST, &mut |bytes| {
        let before: Vec<Entry> = bytes
            .chunks_exact(FIELDS * 8)
            .filter_map(Entry::decode)
            .collect();
        list.clone_from(&before);
        with(&before, &mut list);
        let mut new = Vec::new();
        for entry in &list {
            entry.encode(&mut new);
        }
        (new != bytes).then_some(new)
    })?;
    Ok(list)
}
