//! Envoy's response flags: `envoy.data.accesslog.v3.ResponseFlags`, whose order is that of the bits
//! of the attribute `response.flags`.

use arrayvec::ArrayVec;

/// The short names that access logs have, by bit.
pub(crate) const NAMES: [&[u8]; 30] = [
    b"LH", b"UH", b"UT", b"LR", b"UR", b"UF", b"UC", b"UO", b"NR", b"DI", b"FI", b"RL", b"UAEX",
    b"RLSE", b"DC", b"URX", b"SI", b"IH", b"DPE", b"UMSDR", b"RFCF", b"NFCF", b"DT", b"UPE", b"NC",
    b"OM", b"DF", b"DO", b"DR", b"UDO",
];

const fn bit(name: &[u8]) -> u64 {
    let mut i = 0;
    let mut rest: &[&[u8]] = &NAMES;
    while let [first, others @ ..] = rest {
        if is_same(first, name) {
            return 1 << i;
        }
        rest = others;
        i += 1;
    }
    0
}

const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    one.is_empty() && other.is_empty()
}

/// The order in which they come about, by bit: access logs write them in the order in which they
/// were set, which the number does not tell. Filters in front of the router set some, then the
/// router before it sends, then the retries, then the last attempt's end, then the client's.
const ORDER: [usize; 30] = [
    17, 18, 9, 10, 11, 12, 13, 20, 21, 25, 26, 8, 24, 0, 15, 7, 1, 2, 3, 4, 5, 6, 19, 23, 16, 22,
    27, 29, 14, 28,
];

/// The client closed the connection or reset the stream.
pub(crate) const CLIENT_WENT_AWAY: u64 = bit(b"DC") | bit(b"DR");
/// The upstream gave no answer, or not all of it.
pub(crate) const UPSTREAM_FAILED: u64 = bit(b"UH")
    | bit(b"UT")
    | bit(b"UR")
    | bit(b"UF")
    | bit(b"UC")
    | bit(b"UO")
    | bit(b"UMSDR")
    | bit(b"UPE")
    | bit(b"DF");

const _: () = assert!(CLIENT_WENT_AWAY == 0x1000_4000 && UPSTREAM_FAILED == 0x0488_00f6);

/// No endpoint was there to send the request to.
pub(crate) const NO_ENDPOINT: u64 = bit(b"UH");

/// The names, separated by commas, as access logs write them.
pub(crate) fn names(flags: u64) -> ArrayVec<u8, 128> {
    let mut names = ArrayVec::new();
    let set = ORDER.iter().filter(|bit| flags & (1 << **bit) != 0);
    for name in set.filter_map(|bit| NAMES.get(*bit)) {
        let comma: &[u8] = if names.is_empty() { b"" } else { b"," };
        // All of them take fewer than 128 bytes.
        let _ = names.try_extend_from_slice(comma);
        let _ = names.try_extend_from_slice(name);
    }
    names
}
