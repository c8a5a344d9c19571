//! Listening sockets, the accept loop of a worker, and the end of its connections.
//!
//! Every worker has sockets of its own on the same addresses (`SO_REUSEPORT`), so the kernel spreads connections and no
//! two threads wake for one. A permit comes before a connection: at the limit, new peers wait in the listen backlog.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Accepted};
use crate::guard::poll_guarded;
use crate::service::Shared;
use crate::socket::Socket as Connected;
use crate::watch::{self, Order, Watch};
use crate::worker::Worker;

mod queue;

use queue::AcceptQueue;

/// The most that the kernel keeps of a connection beyond what is on its way, in bytes. A client that takes little holds no
/// more than this, and whether it takes anything is seen by what it makes room for, which is half of it. Measured for 10 MiB
/// over HTTP/1.1: half as much costs 1.2 times the CPU, for the connection is woken more often, and no bound nothing less.
const UNSENT: u32 = 2 << 20;

/// Connections that may wait to be accepted, for each socket; the kernel has a bound of its own.
const BACKLOG: i32 = 4096;

/// Connections that are accepted, and begun, before those that wait for something else have their turn.
const IN_A_ROW: u32 = 16;

/// How often a port is tried that must be free on several addresses.
const PORT_ATTEMPTS: usize = 16;

/// Listening sockets for every worker.
#[derive(Debug)]
pub struct Listeners {
    per_worker: Vec<Vec<StdListener>>,
    addresses: Vec<SocketAddr>,
    /// How many of the addresses, and of each worker's sockets, speak TLS: the last ones.
    tls: usize,
}

/// A listening socket of a worker.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: StdListener,
    is_tls: bool,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the operating system says.
    pub source: io::Error,
}

impl Listeners {
    /// Listens on `addresses` with a socket for each of `workers`.
    ///
    /// Port 0 takes a free port, the same one on every address that asks for it. An IPv6 address takes no IPv4
    /// connections. An address that another process listens on is refused, also where that process would share it.
    ///
    /// # Errors
    ///
    /// Names the first address that cannot be listened on; then none is.
    pub fn bind(addresses: &[SocketAddr], workers: NonZeroUsize) -> Result<Self, BindError> {
        let needs_port = addresses.iter().filter(|address| address.port() == 0).count();
        let attempts = if needs_port > 1 { PORT_ATTEMPTS } else { 1 };
        let mut attempt = 1;
        loop {
            match Self::try_bind(addresses, workers) {
                // The port that was free on one address was not on another.
                Err(error) if error.source.kind() == io::ErrorKind::AddrInUse && attempt < attempts => attempt += 1,
                result => return result,
            }
        }
    }

    /// Listens on the machine's own addresses: 127.0.0.1, and ::1 where there is IPv6. Browsers try either for
    /// `*.localhost`.
    ///
    /// # Errors
    ///
    /// Names the address that cannot be listened on.
    pub fn bind_localhost(port: u16, workers: NonZeroUsize) -> Result<Self, BindError> {
        let (v4, v6) = (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        match Self::bind(&[v4, v6], workers) {
            Err(error) if error.address.is_ipv6() && error.source.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(error = %error.source, "there is no IPv6 here");
                Self::bind(&[v4], workers)
            }
            result => result,
        }
    }

    /// Takes sockets that listen already; the workers share their accept queues.
    ///
    /// # Errors
    ///
    /// Where the operating system does not give further descriptors for them.
    pub fn share(listeners: Vec<StdListener>, workers: NonZeroUsize) -> io::Result<Self> {
        let mut addresses = Vec::with_capacity(listeners.len());
        for listener in &listeners {
            addresses.push(listener.local_addr()?);
            listener.set_nonblocking(true)?;
            set_options(&SockRef::from(listener))?;
        }
        let copy = || listeners.iter().map(StdListener::try_clone).collect::<io::Result<Vec<_>>>();
        let mut per_worker = (1..workers.get()).map(|_| copy()).collect::<io::Result<Vec<_>>>()?;
        per_worker.push(listeners);
        Ok(Self { per_worker, addresses, tls: 0 })
    }

    /// Listens on the addresses of `secured` too, and speaks TLS there. Both are made for as many workers.
    #[must_use]
    pub fn with_tls(mut self, secured: Self) -> Self {
        debug_assert_eq!(self.per_worker.len(), secured.per_worker.len(), "workers");
        debug_assert_eq!(self.tls + secured.tls, 0, "TLS comes last, and once");
        self.tls = secured.addresses.len();
        self.addresses.extend(secured.addresses);
        for (sockets, more) in self.per_worker.iter_mut().zip(secured.per_worker) {
            sockets.extend(more);
        }
        self
    }

    /// The addresses listened on, with their ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Those of the addresses that TLS is spoken on.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.addresses[self.addresses.len() - self.tls..]
    }

    pub(crate) fn into_workers(self) -> Vec<Vec<Listener>> {
        let plain = self.addresses.len() - self.tls;
        let listener = |(index, socket)| Listener { socket, is_tls: index >= plain };
        let worker = |sockets: Vec<StdListener>| sockets.into_iter().enumerate().map(listener).collect();
        self.per_worker.into_iter().map(worker).collect()
    }

    fn try_bind(addresses: &[SocketAddr], workers: NonZeroUsize) -> Result<Self, BindError> {
        let mut per_worker: Vec<Vec<StdListener>> = (0..workers.get()).map(|_| Vec::new()).collect();
        let mut bound = Vec::with_capacity(addresses.len());
        let mut free_port = None;
        for &address in addresses {
            let mut address = address;
            let failed = |address| move |source| BindError { address, source };
            if address.port() == 0 {
                address.set_port(free_port.unwrap_or(0));
            }
            if address.port() != 0 {
                probe(address).map_err(failed(address))?;
            }
            for worker in &mut per_worker {
                let listener = listen(address).map_err(failed(address))?;
                if address.port() == 0 {
                    address = listener.local_addr().map_err(failed(address))?;
                    free_port = Some(address.port());
                }
                worker.push(listener);
            }
            bound.push(address);
        }
        Ok(Self { per_worker, addresses: bound, tls: 0 })
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Finds out whether another process listens on `address`. A shared port would let it, and split the visitors.
fn probe(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    set_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What all connections have, which accepted sockets inherit from the one that listens; and when they are accepted.
fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    queue::defer_accept(&**socket)
}

/// Accepts and serves until `shutdown`, then lets what is in flight finish within the grace.
pub(crate) async fn run(
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    permits: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let queue = |Listener { socket, is_tls }| AcceptQueue::new(socket, is_tls);
    let queues = listeners.into_iter().map(queue).collect::<io::Result<Vec<_>>>()?;
    let worker = Worker::new(Arc::clone(&shared));
    // Ends with this.
    let mut giving = JoinSet::new();
    let turns = Arc::clone(&worker.turns);
    giving.spawn(async move { turns.give().await });
    let mut connections = Connections::new(&shared);
    let mut sweep = tokio::time::interval(watch::sweep_period(&shared.limits));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut acceptor = Acceptor { queues, permits, next: 0, pause: None };
    let mut in_a_row = 0;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.tasks.join_next_with_id() => connections.forget(ended),
            _ = sweep.tick() => connections.sweep(),
            ((stream, peer, is_tls), permit) = acceptor.accept() => {
                let Some(slot) = shared.admit(peer.ip()) else {
                    // A reset costs the least, and leaves nothing behind.
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    continue;
                };
                let watch = Watch::new();
                let accepted = Accepted { socket: Connected::new(stream), peer, is_tls, slot, permit };
                let served = connection::serve(Arc::clone(&worker), accepted, Arc::clone(&watch));
                connections.begin(watch, served);
                in_a_row = (in_a_row + 1) % IN_A_ROW;
                if in_a_row == 0 {
                    task::yield_now().await;
                }
            }
        }
    }
    drop(acceptor); // refuse new peers before waiting for the old ones
    connections.close();
    let drain = async {
        loop {
            tokio::select! {
                ended = connections.tasks.join_next_with_id() => match ended {
                    Some(ended) => connections.forget(ended),
                    None => break,
                },
                _ = sweep.tick() => connections.sweep(),
            }
        }
    };
    if tokio::time::timeout(shared.limits.shutdown_grace, drain).await.is_err() {
        tracing::info!(connections = connections.tasks.len(), "cutting connections past the grace of the shutdown");
        connections.tasks.shutdown().await;
    }
    Ok(())
}

/// The connections of a worker, and their watches.
#[derive(Debug)]
struct Connections {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    watches: HashMap<task::Id, Arc<Watch>>,
}

impl Connections {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), tasks: JoinSet::new(), watches: HashMap::new() }
    }

    /// Serves a connection as far as there is nothing to wait for, which may be to its end; then it becomes a task.
    fn begin(&mut self, watch: Arc<Watch>, served: impl Future<Output = ()> + Send + 'static) {
        self.shared.counters.connection_opened();
        let mut served = Box::pin(served);
        let mut turns = {
            let watch = Arc::clone(&watch);
            poll_fn(move |cx| {
                watch.begin_turn();
                served.as_mut().poll(cx)
            })
        };
        match poll_guarded(Pin::new(&mut turns), "a connection") {
            Some(Poll::Pending) => {
                watch.set_task();
                let id = self.tasks.spawn(turns).id();
                self.watches.insert(id, watch);
            }
            Some(Poll::Ready(())) | None => self.shared.counters.connection_closed(),
        }
    }

    fn forget(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a connection was dropped because it panicked");
                }
                error.id()
            }
        };
        if self.watches.remove(&id).is_some() {
            self.shared.counters.connection_closed();
        }
    }

    /// Has all of them finish what is in flight, and end.
    fn close(&self) {
        self.watches.values().for_each(|watch| watch.tell(Order::Close));
    }

    fn sweep(&self) {
        let Shared { limits, sending, .. } = &*self.shared;
        let is_scarce = sending.budget.available() < limits.window_bytes as u64;
        for watch in self.watches.values() {
            watch.sweep(limits, is_scarce);
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for _ in self.watches.drain() {
            self.shared.counters.connection_closed();
        }
    }
}

/// Takes connections from several queues in turn.
#[derive(Debug)]
struct Acceptor {
    queues: Vec<AcceptQueue>,
    permits: Arc<Semaphore>,
    /// The queue to look at first, so that a busy one does not starve the others.
    next: usize,
    /// How long to wait before the next try, after descriptors ran out.
    pause: Option<Duration>,
}

impl Acceptor {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_millis(100);

    /// The next connection, with the permit for it. Giving this up loses no connection.
    async fn accept(&mut self) -> ((StdStream, SocketAddr, bool), OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            let accepted = poll_fn(|cx| {
                for turn in 0..self.queues.len() {
                    let index = (self.next + turn) % self.queues.len();
                    let queue = &self.queues[index];
                    if let Poll::Ready(accepted) = queue.poll_accept(cx) {
                        self.next = index + 1;
                        return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, queue.is_tls)));
                    }
                }
                Poll::Pending
            });
            match accepted.await {
                Ok(accepted) => {
                    self.pause = None;
                    return (accepted, permit);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: those who are served may free some.
                    let pause = match self.pause {
                        None => {
                            tracing::error!(%error, "cannot accept connections at the moment");
                            Self::FIRST_PAUSE
                        }
                        Some(pause) => (pause * 2).min(Self::LONGEST_PAUSE),
                    };
                    self.pause = Some(pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Whether the connection failed before it was accepted, which says nothing about the next one.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn a_free_port_is_the_same_for_all() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
        let listeners = Listeners::bind(&[any, other], TWO).unwrap();
        let port = listeners.addresses()[0].port();
        assert_ne!(port, 0);
        assert_eq!(listeners.addresses()[1], SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port)));
        let ports: Vec<u16> = listeners.per_worker.iter().flatten().map(|l| l.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [port; 4]);
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let first = Listeners::bind_localhost(0, TWO).unwrap();
        let error = Listeners::bind(&first.addresses()[..1], TWO).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.address, first.addresses()[0]);
    }

    #[test]
    fn given_sockets_are_shared() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = Listeners::share(vec![listener], TWO).unwrap();
        assert_eq!(listeners.addresses(), [address]);
        assert_eq!(listeners.into_workers().len(), 2);
    }

    #[test]
    fn tls_is_spoken_on_its_own_addresses() {
        let (plain, secured) = (Listeners::bind_localhost(0, TWO).unwrap(), Listeners::bind_localhost(0, TWO).unwrap());
        let (count, tls) = (plain.addresses().len(), secured.addresses().to_vec());
        assert!(plain.tls_addresses().is_empty());
        let both = plain.with_tls(secured);
        assert_eq!(both.tls_addresses(), tls);
        for worker in both.into_workers() {
            let kinds: Vec<bool> = worker.iter().map(|listener| listener.is_tls).collect();
            assert_eq!(kinds, [vec![false; count], vec![true; tls.len()]].concat());
        }
    }
}
