// Numbers that carry a check of themselves.
#pragma once
#include <cstddef>
#include <string_view>

namespace slmd {

// ISO/IEC 7812-1: digits alone, the last of which checks the others.
constexpr bool luhn_holds(std::string_view digits) {
    int sum = 0;
    for (std::size_t i = 0; i < digits.size(); i++) {
        const int d = (digits[digits.size() - 1 - i] - '0') << (i % 2);
        sum += d > 9 ? d - 9 : d;
    }
    return sum % 10 == 0;
}

// ISO 7064, MOD 97-10, of an IBAN in capitals without blanks: 1 when it holds.
constexpr int iban_rest(std::string_view iban) {
    int rest = 0;
    for (std::size_t i = 0; i < iban.size(); i++) {
        const char c = iban[(i + 4) % iban.size()];
        rest = c >= '0' && c <= '9' ? (rest * 10 + (c - '0')) % 97 : (rest * 100 + (c - 'A' + 10)) % 97;
    }
    return rest;
}

// Characters of a country's IBANs, by the registry (ISO 13616); 0: it has none. Compared with other programs' tables
// only: DJ, FK, HN, LY, MN, NI, OM, RU, SD, SO and YE.
constexpr std::size_t iban_length(std::string_view country) {
    constexpr std::string_view lengths =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27"
        "GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22"
        "MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28"
        "TL23TN24TR26UA29VA22VG24XK20YE30";
    for (std::size_t i = 0; i < lengths.size(); i += 4)
        if (lengths.substr(i, 2) == country)
            return static_cast<std::size_t>((lengths[i + 2] - '0') * 10 + lengths[i + 3] - '0');
    return 0;
}

}  // namespace slmd
