//! Sixteen bytes at a time, where what is looked for is near and a call of `memchr` would take
//! longer than the search.

const ONES: u64 = u64::MAX / 0xFF;
const HIGH_BITS: u64 = ONES << 7;

/// How many of these bytes stand before the first `wanted`: all, if there is none.
pub(crate) fn before(wanted: u8, bytes: &[u8; 16]) -> usize {
    let (halves, _) = bytes.as_chunks::<8>();
    let marks = |at: usize| zeros(u64::from_le_bytes(halves[at]) ^ (ONES * u64::from(wanted)));
    match marks(0) {
        0 => 8 + first(marks(1)),
        found => first(found),
    }
}

/// The value of the decimal digits that `bytes` begins with, and how many they are. None if there
/// are none, or if all are digits: then there may be more of them.
pub(crate) fn digits(bytes: &[u8; 8]) -> Option<(u32, usize)> {
    let digits = u64::from_le_bytes(*bytes) ^ (ONES * u64::from(b'0'));
    // A byte from 10 on has its high bit set, or gets it.
    let others = (digits.wrapping_add(ONES * (0x80 - 10)) | digits) & HIGH_BITS;
    let count = first(others);
    if count == 0 || count == 8 {
        return None;
    }
    // Zeros in front make all eight one number; then pairs, fours and all are joined by one
    // multiplication each.
    let eight = digits << (64 - 8 * count);
    let pairs = eight.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_FFFF_0000_FFFF;
    Some(((fours.wrapping_mul(1 + (10_000 << 32)) >> 32) as u32, count))
}

/// The high bit of the first byte that is zero, and perhaps of some behind it.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// The place of the first byte with a mark; 8 if there is none.
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_is_found_wherever_it_stands(
            bytes in prop::array::uniform16(prop_oneof![Just(b'"'), Just(b'#'), any::<u8>()]),
        ) {
            let expect = bytes.iter().position(|&byte| byte == b'"').unwrap_or(16);
            prop_assert_eq!(before(b'"', &bytes), expect);
        }

        #[test]
        fn digits_are_read_as_the_standard_library_reads_them(
            bytes in prop::array::uniform8(prop_oneof![4 => b'0'..=b'9', 1 => any::<u8>()]),
        ) {
            let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let text = core::str::from_utf8(&bytes[..count]).unwrap();
            let expect = text.parse().ok().filter(|_| count < 8).map(|value| (value, count));
            prop_assert_eq!(digits(&bytes), expect);
        }
    }
}
