// An answer that takes as long as a test wants.
#pragma once
#include "../wire/mcu.h"
#include "harness.h"

namespace slmd::testing {

// An answer on the serial line that holds its slot until the line says more: after the first piece it waits for an ACK.
inline void generate_until_told(Daemon& d) {
    const std::string bias = "AT#SET=\"bias\",\"" + endless() + "\"";
    for (const std::string& command : {std::string("AT#CRC=1"), std::string("AT#WIN=1"), bias}) {
        d.tty.send(wire::Mcu::checked(command) + "\r");
        d.tty.until("\r\nOK*");
    }
    d.tty.send(wire::Mcu::checked("AT#GEN=\"count\",200") + "\r");
    d.tty.until("#TOK: ");
}

}  // namespace slmd::testing
