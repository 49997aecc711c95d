//! Reads the answers of a collector: messages of Protocol Buffers, of which few fields are needed.
//!
//! prost reads them too, with 10 kB of code in the module.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint.
    Number(i64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which none of the needed fields has.
    Fixed,
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
}

/// Calls `each` with the number and the value of every field, but for groups, which none of the needed
/// fields is. `None` where the message is malformed, or where `each` says that a value is.
#[inline(never)]
pub(crate) fn read<'a>(
    mut message: &'a [u8],
    each: &mut dyn FnMut(u64, Value<'a>) -> Option<()>,
) -> Option<()> {
    // The groups that are open, one in another.
    let mut groups = 0_usize;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?.cast_signed()),
            1 => fixed(&mut message, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(bytes)
            }
            3 => {
                groups = groups.checked_add(1)?;
                continue;
            }
            4 => {
                groups = groups.checked_sub(1)?;
                continue;
            }
            5 => fixed(&mut message, 4)?,
            _ => return None,
        };
        if groups == 0 {
            each(tag >> 3, value)?;
        }
    }
    (groups == 0).then_some(())
}

fn fixed<'a>(message: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    *message = message.get(length..)?;
    Some(Value::Fixed)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(int64, tag = "1")]
        number: i64,
        #[prost(string, tag = "2")]
        text: String,
        #[prost(double, tag = "3")]
        double: f64,
        #[prost(fixed32, tag = "4")]
        fixed: u32,
        #[prost(int64, tag = "500")]
        last: i64,
    }

    #[test]
    fn reads_what_prost_writes() {
        let sample = Sample {
            number: i64::MIN,
            text: "a".repeat(200),
            double: 0.5,
            fixed: 7,
            last: 300,
        };
        let message = sample.encode_to_vec();
        let mut read_fields = Vec::new();
        let end = read(&message, &mut |field, value| {
            read_fields.push((field, value));
            Some(())
        });
        assert_eq!(end, Some(()));
        let expected = [
            (1, Value::Number(i64::MIN)),
            (2, Value::Bytes(sample.text.as_bytes())),
            (3, Value::Fixed),
            (4, Value::Fixed),
            (500, Value::Number(300)),
        ];
        assert_eq!(read_fields, expected);
        // Cut between two fields it is a message, and nowhere else.
        let cut = (1..message.len()).filter(|end| {
            let part = message.get(..*end).unwrap();
            read(part, &mut |_, _| Some(())).is_some()
        });
        assert_eq!(cut.count(), 4);
    }

    #[test]
    fn passes_over_groups() {
        // Field 2 is a group with a field 1 and a group in it; field 1 follows.
        let message = b"\x13\x08\x05\x1b\x0a\x01a\x1c\x14\x08\x07";
        let mut read_fields = Vec::new();
        let end = read(message, &mut |field, value| {
            read_fields.push((field, value));
            Some(())
        });
        assert_eq!(end, Some(()));
        assert_eq!(read_fields, [(1, Value::Number(7))]);
    }

    #[test]
    fn refuses_what_is_no_message() {
        for message in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\x0b",
            b"\x0b\x0c\x0c",
            b"\x0f",
            b"\x0a\x05abc",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x0d\x01",
        ] {
            assert_eq!(read(message, &mut |_, _| Some(())), None, "{message:?}");
        }
        assert_eq!(read(b"", &mut |_, _| None), Some(()));
        assert_eq!(read(b"\x08\x01", &mut |_, _| None), None);
    }
}
