// What a Raspberry Pi 5's power chip says.
#pragma once

namespace slmd::hal {

// The sum over all rails of amperes times volts, from the text of `vcgencmd pmic_read_adc` ("3V3_SYS_A
// current(1)=0.08A", "3V3_SYS_V volt(9)=3.31V"); 0: there is no such pair.
double pmic_microwatts(const char* text);

}  // namespace slmd::hal
