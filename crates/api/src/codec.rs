//! How messages are encoded and decoded: as prost does it, with buffers of the size of our messages.
//!
//! Assumes that most messages are reports, acknowledgements and directives. Read next: `build.rs`, which has the generated services use it.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::ProstCodec;

/// Each stream keeps a buffer in each direction for as long as it is open. A report takes 0.5 KiB and a directive 1 to 3 KiB; larger
/// messages let a buffer grow by this. The library's own 8 KiB would cost a controller of 10,000 agents 120 MB more.
const BUFFER: usize = 2 * 1024;
/// A batch of messages is handed on at this size, as the library does by itself.
const YIELD: usize = 32 * 1024;

/// Encodes `T` and decodes `U`.
#[derive(Clone, Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as tonic::codec::Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as tonic::codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD))
    }
}
