// TLS to one upstream, by Mbed TLS 2.28 or 3.x. Nothing else includes Mbed TLS.
//
// Whom it trusts. With a CA bundle (`ca`): a chain to one of its certificates, the host's name or address in the
// server's certificate, and today within the dates of all of them. With `pin` as well: one key of that chain must, on
// top of it, be among the pins (RFC 7469, 2.6). With `ca = ""`: the pins alone, and only for the server's own key;
// name and dates then count for nothing (as in RFC 7671, 5.1), which is what a server that signed its own certificate
// needs, and a board without a clock. Revocation is not looked up: a pin is taken back by changing the configuration.
//
// What it offers: TLS 1.2, and 1.3 where the library has it; ephemeral keys (X25519, P-256, P-384) with AEAD only; no
// renegotiation; ALPN http/1.1. Sessions are resumed within this process for an hour.
//
// Memory: neither Debian 12 (2.28) nor Debian 13 (3.6) builds Mbed TLS with its buffer allocator or with
// mbedtls_platform_set_calloc_free(). What bounds it is bound_memory(), and the library's own limits: 16 KiB a record
// and a handshake message, 8 certificates a chain. The bundle is read for each connection and freed with it: that is
// most of the memory, and a new bundle counts from the next connection on.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "uplink/config.h"
#include "uplink/wait.h"

namespace slmd::uplink {

struct Peer {
    char version[16] = "", cipher[64] = "", subject[160] = "", issuer[160] = "";
    char pin[45] = "";           // of the server's key, as the configuration has it
    std::int64_t not_after = 0;  // seconds since 1970
    bool resumed = false;
};

class Tls {
  public:
    explicit Tls(const Upstream& upstream);
    ~Tls();
    Tls(const Tls&) = delete;
    Tls& operator=(const Tls&) = delete;

    // Reads bundle, certificate and key as a connection would, and says what is wrong with them. Errors:
    // storage_failure, incorrect_parameters.
    Result<void> check_files() const;
    // The handshake on a connected, non-blocking socket, which stays the caller's. An error means that nothing of a
    // request was sent. Errors: not_permitted (not the server that it should be, or its certificate is not valid on
    // the board's date), device_io, deadline, aborted, and those of check_files().
    Result<void> open(int fd, const Until& until);
    // At least one byte; read gives 0 when the server said that it ends. Errors: device_io (also when the connection
    // ends without being closed, which an attacker can do, too), deadline, aborted.
    Result<std::size_t> read(std::span<char> out, const Until& until);
    Result<std::size_t> write(std::span<const char> bytes, const Until& until);
    void close();

    const Peer& peer() const { return peer_; }
    std::uint64_t bytes_out() const { return bytes_out_; }  // on the socket, since open()
    std::uint64_t bytes_in() const { return bytes_in_; }

  private:
    struct Link;
    struct Session;
    Result<std::size_t> step(int result, const Until& until, const char* doing, bool& again);
    Error refused(int result, const char* doing) const;
    Result<void> admit();
    void remember();
    static int send(void* self, const unsigned char* bytes, std::size_t size);
    static int receive(void* self, unsigned char* out, std::size_t size);

    const Upstream& upstream_;
    std::unique_ptr<Session> session_;
    std::unique_ptr<Link> link_;
    int fd_ = -1;
    Peer peer_;
    std::uint64_t bytes_out_ = 0, bytes_in_ = 0;
};

// The process may take so many bytes of data from now on (RLIMIT_DATA); beyond it, Mbed TLS fails with a clear error.
// Error: device_io.
Result<void> bound_memory(std::size_t bytes);

// SHA-256 (PSA), for pins. Error: unknown.
Result<void> sha256(std::span<const std::uint8_t> bytes, std::uint8_t (&digest)[32]);

}  // namespace slmd::uplink
