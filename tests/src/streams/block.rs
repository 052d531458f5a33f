//! A block: 32 bytes that say which stream, position and backend they are of, and the stream's bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::pattern::{Direction, Pattern};
use crate::world::Backend;

/// The most bytes that a block carries.
pub const MAX_BODY: usize = 1024;

const HEADER: usize = 32;
const MAGIC: u32 = 0x464f_4f42;

/// The client's place in a block's header, where the server names its backend.
pub const NO_BACKEND: Backend = 0;

/// One direction of a stream, at one end.
#[derive(Debug)]
pub struct Side {
    stream: u64,
    pattern: Pattern,
    position: u64,
}

/// A block that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The stream that it says it belongs to.
    pub stream: u64,
    /// The backend that it says it comes from.
    pub backend: Backend,
    /// Bytes that it carried besides its header.
    pub length: usize,
    /// How many bytes are not as they have to be; a wrong header counts with all its bytes.
    pub wrong: u64,
}

impl Side {
    /// A direction of a stream, at its beginning.
    pub const fn new(stream: u64, direction: Direction) -> Self {
        Self {
            stream,
            pattern: Pattern::new(stream, direction),
            position: 0,
        }
    }

    /// Sends the stream's next `length` bytes (at most [`MAX_BODY`]) in one write.
    pub async fn send(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        backend: Backend,
        length: usize,
    ) -> io::Result<()> {
        let mut block = [0; HEADER + MAX_BODY];
        let block = &mut block[..HEADER + length.min(MAX_BODY)];
        let (header, body) = block.split_at_mut(HEADER);
        header[..4].copy_from_slice(&MAGIC.to_be_bytes());
        header[4..8].copy_from_slice(&(body.len() as u32).to_be_bytes());
        header[8..16].copy_from_slice(&self.stream.to_be_bytes());
        header[16..24].copy_from_slice(&self.position.to_be_bytes());
        header[24..].copy_from_slice(&u64::from(backend).to_be_bytes());
        self.pattern.fill(self.position, body);
        self.position += body.len() as u64;
        socket.write_all(block).await
    }
}

/// The receiving end of a direction; it learns the stream's id from the first block if it isn't told.
#[derive(Debug)]
pub struct Receiver {
    direction: Direction,
    expected: Option<Side>,
}

impl Receiver {
    /// Takes the stream's id from its first block, which must be at position 0.
    pub const fn any(direction: Direction) -> Self {
        Self {
            direction,
            expected: None,
        }
    }

    /// Takes blocks of one stream only.
    pub const fn of(stream: u64, direction: Direction) -> Self {
        Self {
            direction,
            expected: Some(Side::new(stream, direction)),
        }
    }

    /// The next block; none where the other end has closed after the last one.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` in the middle of a block.
    pub async fn next(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Received>> {
        let mut header = [0; HEADER];
        let first = socket.read(&mut header).await?;
        if first == 0 {
            return Ok(None);
        }
        socket.read_exact(&mut header[first..]).await?;
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let (magic, length) = ((word(0) >> 32) as u32, word(0) as u32 as usize);
        let (stream, position, backend) = (word(8), word(16), word(24));
        let expected = self
            .expected
            .get_or_insert_with(|| Side::new(stream, self.direction));
        let mut received = Received {
            stream,
            backend: u8::try_from(backend).unwrap_or(NO_BACKEND),
            length,
            wrong: 0,
        };
        if magic != MAGIC || length > MAX_BODY || stream != expected.stream || position != expected.position {
            received.wrong = HEADER as u64;
            return Ok(Some(received));
        }
        let mut body = [0; MAX_BODY];
        let body = &mut body[..length];
        socket.read_exact(body).await?;
        received.wrong = expected.pattern.wrong(position, body);
        expected.position += length as u64;
        Ok(Some(received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(blocks: &[usize]) -> Vec<u8> {
        let mut side = Side::new(5, Direction::Request);
        let mut bytes = Vec::new();
        for &length in blocks {
            side.send(&mut bytes, 3, length).await.unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn blocks_arrive_as_they_were_sent() {
        let bytes = sent(&[10, 1024]).await;
        let mut socket = &bytes[..];
        let mut receiver = Receiver::any(Direction::Request);
        for length in [10, 1024] {
            let expected = Received {
                stream: 5,
                backend: 3,
                length,
                wrong: 0,
            };
            assert_eq!(receiver.next(&mut socket).await.unwrap(), Some(expected));
        }
        assert_eq!(receiver.next(&mut socket).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_flipped_bit_a_lost_block_and_another_stream_are_seen() {
        let mut flipped = sent(&[10]).await;
        flipped[HEADER + 4] ^= 0x10;
        let block = Receiver::any(Direction::Request)
            .next(&mut &flipped[..])
            .await
            .unwrap();
        assert_eq!(block.unwrap().wrong, 1);

        let bytes = sent(&[10, 20]).await;
        let mut second = &bytes[HEADER + 10..];
        let block = Receiver::any(Direction::Request).next(&mut second).await.unwrap();
        assert_eq!(block.unwrap().wrong, HEADER as u64);

        let block = Receiver::of(6, Direction::Request)
            .next(&mut &bytes[..])
            .await
            .unwrap();
        assert_eq!(block.unwrap().wrong, HEADER as u64);
    }
}
