//! Numbers as few bytes: groups of seven bits, lowest first; the highest bit of a byte says that more follow.

/// Appends `value`.
pub(crate) fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads a number at `offset` and moves behind it. `None`: the bytes end, or it has more than 64 bits.
pub(crate) fn read(bytes: &[u8], offset: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(*bytes.get(*offset)?);
        let bits = byte & 0x7f;
        if bits << shift >> shift != bits {
            return None; // More than 64 bits.
        }
        *offset += 1;
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign to small numbers.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Back from [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
