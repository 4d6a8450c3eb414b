//! The conversation with db-server: greeting it, finding out what it knows, and what each of its answers is about.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::{Failure, MessageError, ServerReply, ServerRequest, VmEntry};
use server_client::{Client, RequestId};

use crate::vm::Identity;

/// What an answer is about.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// That ends are told.
    Watch,
    /// The VMs that db-server has of this controller.
    List,
    Image(Digest),
    /// A VM of a platform.
    Vm(alloc::string::String, usize),
    /// A VM that belongs to no platform any more.
    Leftover(Identity),
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) client: Client,
    purposes: BTreeMap<RequestId, Purpose>,
    /// What was listed so far.
    listed: Vec<VmEntry>,
    /// Whether it is known what db-server has, so that VMs can be asked for.
    pub(crate) is_settled: bool,
}

/// What became of the list.
pub(crate) enum Listed {
    /// There is more to come.
    Partly,
    Whole(Vec<VmEntry>),
    /// There is none, and without it nothing is known.
    Failed(Failure),
}

impl Server {
    pub(crate) fn new(name: &str) -> Result<Self, MessageError> {
        Ok(Self {
            client: Client::new(name)?,
            purposes: BTreeMap::new(),
            listed: Vec::new(),
            is_settled: false,
        })
    }

    pub(crate) fn ask(&mut self, request: ServerRequest, purpose: Purpose) -> RequestId {
        let id = self.client.ask(request);
        self.purposes.insert(id, purpose);
        id
    }

    /// What the answer to `id` is about.
    pub(crate) fn purpose(&mut self, id: RequestId) -> Option<Purpose> {
        self.purposes.remove(&id)
    }

    /// The hello was answered: ends are to be told, from then on nothing happens unheard, and what there is is to be listed.
    pub(crate) fn greeted(&mut self) {
        self.ask(ServerRequest::WatchExits { watch: true }, Purpose::Watch);
    }

    /// Asks for the list, or for the rest of it.
    pub(crate) fn list(&mut self) {
        let after = self.listed.iter().map(|entry| entry.domid).max().unwrap_or(0);
        self.ask(ServerRequest::List { after }, Purpose::List);
    }

    pub(crate) fn listed(&mut self, answer: Result<ServerReply, Failure>) -> Listed {
        match answer {
            Ok(ServerReply::Vms { vms, more }) => {
                // A list that does not go on would be asked for again for ever.
                let goes_on = more && !vms.is_empty();
                self.listed.extend(vms);
                if goes_on {
                    self.list();
                    return Listed::Partly;
                }
                self.is_settled = true;
                Listed::Whole(core::mem::take(&mut self.listed))
            }
            Ok(_) => Listed::Partly,
            Err(failure) => Listed::Failed(failure),
        }
    }
}
