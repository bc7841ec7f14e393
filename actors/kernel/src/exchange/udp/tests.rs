use super::*;

#[test]
fn a_table_of_failures_to_send() {
    let unreachable = Outcome::HostUnreachable { by: None, icmp_type: None, icmp_code: None };
    let table = [
        (libc::EPERM, Outcome::NotPermitted),
        (libc::ENETUNREACH, Outcome::NetworkUnreachable),
        (libc::EINVAL, Outcome::NetworkUnreachable),
        (libc::EACCES, Outcome::NetworkUnreachable),
        (libc::EHOSTUNREACH, unreachable),
        (libc::ENOBUFS, Outcome::NoBuffers),
        (libc::ENOMEM, Outcome::NotAsked { why: NotAsked::NoResources }),
        (libc::EBADF, Outcome::NotAsked { why: NotAsked::LocalError }),
    ];
    for (errno, outcome) in table {
        assert_eq!(send_error(&io::Error::from_raw_os_error(errno)), outcome, "{errno}");
    }
}
