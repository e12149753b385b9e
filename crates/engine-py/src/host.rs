//! What the system does for the engine in calls that libc has and nobody wraps.

use surgeline_engine::host::{Host, Stamps};

/// All that this system does for an engine.
pub fn host() -> Host {
    Host { unbound: system::leave_the_port_open, stamps: stamps(), wake_soon: system::wake_soon }
}

/// The kernel's receive time stamps; None where the system has none.
#[cfg(target_os = "linux")]
pub fn stamps() -> Option<Stamps> {
    Some(Stamps { prepare: system::prepare, receive: system::receive })
}

/// Other systems have none.
#[cfg(not(target_os = "linux"))]
pub fn stamps() -> Option<Stamps> {
    None
}

/// Has the allocator keep what the tables of a second take, which the next second takes again: by itself glibc gives back
/// and takes some 4 MB each second at 20,000 requests/s, and resident memory is now this, now that. What a backlog took
/// goes back all the same. Other allocators are left as they are.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_memory() {
    // A batch of rows takes 3 MB while its table is made and copied to Python; they are read one by one.
    const LARGE: libc::c_int = 2 << 20;
    const KEPT: libc::c_int = 5 << 20;
    // SAFETY: two integers, no pointer; mallopt takes the allocator's own locks.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Not glibc.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory() {}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use mio::net::TcpStream;
    use surgeline_engine::clock::Ns;

    /// Has a socket's port chosen when it connects, not when it is bound: ports are then counted per pair of addresses.
    /// A socket that does not take the option is bound as everywhere else.
    pub fn leave_the_port_open(socket: &OwnedFd) {
        turn_on(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    }

    /// Has the kernel stamp what the socket receives. A socket that does not take the option has no stamps.
    pub fn prepare(stream: &TcpStream) {
        turn_on(stream, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    }

    fn turn_on(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int) {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open as long as `socket` is borrowed; the option's value is an int that outlives the
        // call, and its length is given.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(&on).cast(),
                size_of_val(&on) as libc::socklen_t,
            );
        }
    }

    /// Has the calling thread run soon after it wakes, though another thread runs on its core: Linux from 6.12 on lets a
    /// thread ask for short turns, and one that wakes then comes before another that asked for longer ones. Its share of the
    /// core stays what it was. Older systems take no notice, and a thread that is not scheduled as usual is left alone.
    pub fn wake_soon() {
        // Shorter than the kernel's own choice (0.7 ms and more), and the shortest that it takes.
        const TURN_NS: u64 = 100_000;
        let size = size_of::<libc::sched_attr>() as libc::c_uint;
        // SAFETY: a sched_attr is integers, for which zeros are values; both calls get the calling thread (0), a pointer to
        // the attributes, which live until they return, and the first its size; neither keeps the pointer.
        unsafe {
            let mut told: libc::sched_attr = std::mem::zeroed();
            let found = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut told, size, 0);
            if found == 0 && told.sched_policy == libc::SCHED_OTHER as u32 {
                told.size = size;
                told.sched_runtime = TURN_NS;
                libc::syscall(libc::SYS_sched_setattr, 0, &raw const told, 0);
            }
        }
    }

    #[repr(C, align(8))]
    struct Control([u8; 64]);

    /// Bytes read, and the stamp of the last of them: wall clock, ns; 0 without one.
    pub fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = Control([0; 64]);
        // SAFETY: a msghdr of zeros is one without name and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the message points to one buffer and one control buffer, both borrowed mutably here, of the lengths
        // that it names, aligned for a cmsghdr.
        let size = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0) };
        if size < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut stamp = 0;
        // SAFETY: the kernel has filled the control buffer and set its length; CMSG_FIRSTHDR and CMSG_NXTHDR stay within
        // it. The data of SCM_TIMESTAMPNS is a timespec, read unaligned.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS {
                    let told: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    stamp = told.tv_sec as Ns * 1_000_000_000 + told.tv_nsec as Ns;
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok((size as usize, stamp))
    }
}

/// Where libc has none of these calls.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::fd::OwnedFd;

    pub fn leave_the_port_open(_: &OwnedFd) {}

    pub fn wake_soon() {}
}
