//! SHA-256 of sixteen messages side by side, on AVX-512: word `i` of every message stands in one register.
//!
//! Why unsafe code: a function for a processor feature may only be called after asking for it, which the compiler cannot
//! see. The two calls below are all there is of it; nothing here touches memory by pointer. It is kept because it halves
//! the cost of a share against the best safe batch (docs/benchmarks.md). A Merkle fold needs no transposing: the
//! words of sixteen hashes are the words of the next sixteen messages, and the branch is the same for all.
//! Next: `../sha.rs`, whose plain functions it is tested against.
#![allow(unsafe_code)]

use super::{AFTER_64, Block, INITIAL, LANES, State, Trunk};
use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm512_add_epi32, _mm512_extracti32x4_epi32, _mm512_ror_epi32,
    _mm512_set_epi32, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_ternarylogic_epi32,
};

type Wide = [__m512i; 8];

/// FIPS 180-4, 4.2.2.
const K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// `K` plus the message schedule of the block that follows every 64-byte message.
const K_AFTER_64: [u32; 64] = constant_schedule(&AFTER_64);

pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
}

pub(super) fn roots(trunk: &Trunk<'_>, heads: &[&[Block]; LANES]) -> Option<[[u8; 32]; LANES]> {
    // SAFETY: the processor has AVX-512F, which is all that `roots_wide` is compiled for.
    is_there().then(|| unsafe { roots_wide(trunk, heads) })
}

pub(super) fn headers(headers: &[&[u8; 80]; LANES]) -> Option<[[u8; 32]; LANES]> {
    // SAFETY: the processor has AVX-512F, which is all that `headers_wide` is compiled for.
    is_there().then(|| unsafe { headers_wide(headers) })
}

#[target_feature(enable = "avx512f")]
fn roots_wide(trunk: &Trunk<'_>, heads: &[&[Block]; LANES]) -> [[u8; 32]; LANES] {
    let mut state = spread(trunk.midstate);
    for number in 0..heads[0].len() {
        compress(&mut state, gather(|lane, word| word_of(&heads[lane][number], word)));
    }
    for block in trunk.rest {
        let mut words = [all(0); 16];
        for (word, into) in words.iter_mut().enumerate() {
            *into = all(word_of(block, word));
        }
        compress(&mut state, words);
    }
    let mut root = finish(&state);
    for branch in trunk.branches {
        let mut words = [all(0); 16];
        words[..8].copy_from_slice(&root);
        for (into, bytes) in words[8..].iter_mut().zip(branch.as_chunks::<4>().0) {
            *into = all(u32::from_be_bytes(*bytes));
        }
        let mut inner = spread(&INITIAL);
        compress(&mut inner, words);
        compress_constant(&mut inner, &K_AFTER_64);
        root = finish(&inner);
    }
    scatter(&root)
}

#[target_feature(enable = "avx512f")]
fn headers_wide(headers: &[&[u8; 80]; LANES]) -> [[u8; 32]; LANES] {
    let word = |lane: usize, word: usize| {
        let bytes = &headers[lane][4 * word..4 * word + 4];
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let mut state = spread(&INITIAL);
    compress(&mut state, gather(word));
    let mut words = [all(0); 16];
    for (number, into) in words[..4].iter_mut().enumerate() {
        *into = lanes(|lane| word(lane, 16 + number));
    }
    (words[4], words[15]) = (all(0x8000_0000), all(80 * 8));
    compress(&mut state, words);
    scatter(&finish(&state))
}

/// The second hash of a double one.
#[target_feature(enable = "avx512f")]
#[inline]
fn finish(inner: &Wide) -> Wide {
    let mut words = [all(0); 16];
    words[..8].copy_from_slice(inner);
    (words[8], words[15]) = (all(0x8000_0000), all(32 * 8));
    let mut state = spread(&INITIAL);
    compress(&mut state, words);
    state
}

#[target_feature(enable = "avx512f")]
#[inline]
fn compress(state: &mut Wide, mut w: [__m512i; 16]) {
    let before = *state;
    for quarter in 0..4 {
        for i in 0..16 {
            if quarter > 0 {
                let (near, far) = (small_0(w[(i + 1) % 16]), small_1(w[(i + 14) % 16]));
                w[i] = add(add(w[i], near), add(w[(i + 9) % 16], far));
            }
            round(state, i, add(w[i], all(K[16 * quarter + i])));
        }
    }
    feed_forward(state, &before);
}

/// A block that is the same for everybody: its schedule is a table.
#[target_feature(enable = "avx512f")]
#[inline]
fn compress_constant(state: &mut Wide, schedule: &[u32; 64]) {
    let before = *state;
    for (i, word) in schedule.iter().enumerate() {
        round(state, i, all(*word));
    }
    feed_forward(state, &before);
}

/// Round `i`. The eight letters do not move: their places turn by one each round.
#[target_feature(enable = "avx512f")]
#[inline]
fn round(state: &mut Wide, i: usize, word: __m512i) {
    let at = |letter: usize| (letter + 64 - i % 8) % 8;
    let [a, b, c, e, f, g, h] = [0, 1, 2, 4, 5, 6, 7].map(|letter| state[at(letter)]);
    let choice = _mm512_ternarylogic_epi32::<0xca>(e, f, g);
    let majority = _mm512_ternarylogic_epi32::<0xe8>(a, b, c);
    let first = add(add(h, word), add(big_1(e), choice));
    state[at(3)] = add(state[at(3)], first);
    state[at(7)] = add(first, add(big_0(a), majority));
}

#[target_feature(enable = "avx512f")]
#[inline]
fn feed_forward(state: &mut Wide, before: &Wide) {
    for (into, from) in state.iter_mut().zip(before) {
        *into = add(*into, *from);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn big_0(x: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x), _mm512_ror_epi32::<22>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn big_1(x: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x), _mm512_ror_epi32::<25>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn small_0(x: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn small_1(x: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<17>(x), _mm512_ror_epi32::<19>(x), _mm512_srli_epi32::<10>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi32(x, y)
}

/// One word for all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// One state for all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn spread(state: &State) -> Wide {
    let mut wide = [all(0); 8];
    for (into, word) in wide.iter_mut().zip(state) {
        *into = all(*word);
    }
    wide
}

/// One word from each lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn lanes(word: impl Fn(usize) -> u32) -> __m512i {
    let w = |lane: usize| word(lane).cast_signed();
    _mm512_set_epi32(
        w(15),
        w(14),
        w(13),
        w(12),
        w(11),
        w(10),
        w(9),
        w(8),
        w(7),
        w(6),
        w(5),
        w(4),
        w(3),
        w(2),
        w(1),
        w(0),
    )
}

/// A block from each lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn gather(word: impl Fn(usize, usize) -> u32) -> [__m512i; 16] {
    let mut words = [all(0); 16];
    for (number, into) in words.iter_mut().enumerate() {
        *into = lanes(|lane| word(lane, number));
    }
    words
}

/// The hash of each lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn scatter(state: &Wide) -> [[u8; 32]; LANES] {
    let mut hashes = [[0; 32]; LANES];
    for (number, word) in state.iter().enumerate() {
        let quarters = [
            _mm512_extracti32x4_epi32::<0>(*word),
            _mm512_extracti32x4_epi32::<1>(*word),
            _mm512_extracti32x4_epi32::<2>(*word),
            _mm512_extracti32x4_epi32::<3>(*word),
        ];
        for (quarter, four) in quarters.into_iter().enumerate() {
            let four = [
                _mm_extract_epi32::<0>(four),
                _mm_extract_epi32::<1>(four),
                _mm_extract_epi32::<2>(four),
                _mm_extract_epi32::<3>(four),
            ];
            for (lane, word) in four.into_iter().enumerate() {
                hashes[4 * quarter + lane][4 * number..4 * number + 4].copy_from_slice(&word.to_be_bytes());
            }
        }
    }
    hashes
}

fn word_of(block: &Block, word: usize) -> u32 {
    u32::from_be_bytes(block.as_chunks::<4>().0[word])
}

const fn constant_schedule(block: &Block) -> [u32; 64] {
    let mut w = [0u32; 64];
    let mut i = 0;
    while i < 64 {
        w[i] = if i < 16 {
            u32::from_be_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]])
        } else {
            let (near, far) = (w[i - 15], w[i - 2]);
            let near = near.rotate_right(7) ^ near.rotate_right(18) ^ near >> 3;
            let far = far.rotate_right(17) ^ far.rotate_right(19) ^ far >> 10;
            w[i - 16].wrapping_add(near).wrapping_add(w[i - 7]).wrapping_add(far)
        };
        i += 1;
    }
    let mut k = 0;
    while k < 64 {
        w[k] = w[k].wrapping_add(K[k]);
        k += 1;
    }
    w
}
