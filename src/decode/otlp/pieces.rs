//! Merges embedded messages that arrive in several pieces, as a protobuf parser does (Protocol Buffers, Encoding, "Last
//! One Wins"). The last member of a `oneof` counts; its pieces are not merged if another member separates them.
//!
//! **Invariant:** the copy is written in one pass without copying a byte twice; it is at most four bytes longer for
//! each message in it.

use crate::decode::otlp::schema::{FieldSchema, FieldType, MessageSchema};
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader};

/// Number of bytes reserved for the length of a message, which is written before the length is known. A varint of 5
/// bytes holds 35 bits.
const LENGTH_BYTES: usize = 5;

/// Copies a message so that each embedded message is whole, without fields that its table does not know.
///
/// `message` is valid, which bounds the depth of the recursion and the number of pieces.
///
/// # Errors
/// [`Malformed`] if it is not protobuf.
pub(in crate::decode) fn merged(
    message: &[u8],
    schema: &'static MessageSchema,
) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(message.len());
    write(&[message], schema, &mut out)?;
    Ok(out)
}

/// A field that holds one message, with its pieces.
struct EmbeddedMessage<'a> {
    field: &'static FieldSchema,
    schema: &'static MessageSchema,
    pieces: Vec<&'a [u8]>,
}

/// Appends the message that consists of `pieces`, one after the other.
fn write(
    pieces: &[&[u8]],
    schema: &'static MessageSchema,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut embedded: Vec<EmbeddedMessage<'_>> = Vec::new();
    for piece in pieces {
        let mut reader = ProtobufReader::new(piece);
        loop {
            let before = reader.rest();
            let Some((number, value)) = reader.field()? else {
                break;
            };
            let Some(field) = schema.field(number) else {
                continue;
            };
            let (FieldType::Message(inner), FieldValue::Bytes(bytes)) = (field.kind, value) else {
                if schema.is_value && !matches!(field.kind, FieldType::StringReference) {
                    embedded.clear();
                }
                out.extend_from_slice(&before[..before.len() - reader.rest().len()]);
                continue;
            };
            if field.repeated {
                write_field(number, &[bytes], inner, out)?;
                continue;
            }
            if schema.is_value {
                embedded.retain(|known| known.field.number == number);
            }
            match embedded
                .iter_mut()
                .find(|known| known.field.number == number)
            {
                Some(known) => known.pieces.push(bytes),
                None => embedded.push(EmbeddedMessage {
                    field,
                    schema: inner,
                    pieces: vec![bytes],
                }),
            }
        }
    }
    // Embedded messages are written last, so that in a value the message is the last member, which counts.
    for EmbeddedMessage {
        field,
        schema,
        pieces,
    } in embedded
    {
        write_field(field.number, &pieces, schema, out)?;
    }
    Ok(())
}

fn write_field(
    number: u32,
    pieces: &[&[u8]],
    schema: &'static MessageSchema,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    crate::decode::protobuf::put_varint(out, u64::from(number << 3 | 2));
    let start = out.len() + LENGTH_BYTES;
    out.resize(start, 0);
    write(pieces, schema, out)?;
    let mut len = out.len() - start;
    for byte in &mut out[start - LENGTH_BYTES..start - 1] {
        *byte = low_seven_bits(len) | 0x80;
        len >>= 7;
    }
    out[start - 1] = low_seven_bits(len);
    Ok(())
}

fn low_seven_bits(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::json_text::json_string;
    use crate::decode::otlp::any_value::{ValueStyle, any_value};
    use crate::decode::otlp::schema::ANY_VALUE;
    use crate::event::Limits;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u8::try_from(bytes.len()).expect("short");
        [&[number << 3 | 2, len], bytes].concat()
    }

    fn array(texts: &[&str]) -> Vec<u8> {
        let elements = texts
            .iter()
            .map(|text| field(1, &field(1, text.as_bytes())));
        field(5, &elements.collect::<Vec<_>>().concat())
    }

    #[test]
    fn of_a_values_members_the_last_counts_with_the_pieces_that_nothing_separates() {
        let text = field(1, b"x");
        for (pieces, expected) in [
            (
                vec![array(&["a"]), array(&["b", "c"])],
                r#"["a", "b", "c"]"#,
            ),
            (vec![array(&["a"]), text.clone()], r#""x""#),
            (vec![array(&["a"]), text.clone(), array(&["b"])], r#"["b"]"#),
            (
                vec![array(&["a"]), field(6, b""), array(&["b"])],
                r#"["b"]"#,
            ),
            (vec![text, array(&["a"]), array(&[])], r#"["a"]"#),
        ] {
            let merged = merged(&pieces.concat(), &ANY_VALUE).expect("protobuf");
            let style = ValueStyle::row(&Limits::default());
            let written = json_string(|out| any_value(out, &merged, &style));
            assert_eq!(written, expected);
        }
    }
}
