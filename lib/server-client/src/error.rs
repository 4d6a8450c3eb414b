//! Why a conversation ends.

use protocols::message::{Failure, MessageError};
use thiserror::Error;

/// Why no more messages can be sent or received.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessagesError<E> {
    /// The stream is at its end, or broken.
    #[error("{0}")]
    Transport(E),
    /// The peer sent something that is no message.
    #[error("{0}")]
    Message(#[from] MessageError),
    /// The peer does not take what is sent to it.
    #[error("{waiting} bytes wait to be sent, more than {limit}: the peer does not read")]
    Stalled {
        /// Bytes that wait.
        waiting: usize,
        /// The most that may.
        limit: usize,
    },
}

/// Why db-server cannot be asked any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError<E> {
    /// The stream or what came over it.
    #[error("{0}")]
    Messages(#[from] MessagesError<E>),
    /// db-server has closed the conversation, and says why.
    #[error("db-server has dropped this controller: {0}")]
    Dropped(Failure),
    /// db-server refuses to speak.
    #[error("db-server refuses the hello: {0}")]
    Refused(Failure),
    /// An answer to nothing that was asked, or another one than it can have.
    #[error("an answer to request {id} that was not asked, or of another kind")]
    Unasked {
        /// Its number.
        id: u32,
    },
}
