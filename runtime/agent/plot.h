// What a calibration did, as a picture.
#pragma once
#include <string>
#include <string_view>

#include "agent/calibrate.h"

namespace slmd::agent {

// An SVG of two diagrams side by side: how often answers were right by how sure they were (reliability, the bins of
// ece()), and the share of wrong ones among the surest (risk and coverage); both before and after. It loads nothing:
// its letters are strokes of its own, so that it reads the same where there are no fonts. title: in ASCII; what else it
// holds is left out.
std::string calibration_svg(const Fit& fit, std::string_view title);

}  // namespace slmd::agent
