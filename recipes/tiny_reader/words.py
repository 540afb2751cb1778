"""Text to print: words, names, numbers, dates and amounts, so varied that no answer can be guessed."""

from __future__ import annotations

import random

_S = str.split
NOUNS = _S(
    "account action adapter address agenda album alert amount anchor angle annex answer apple archive area arrow "
    "article asset atlas audio audit author badge balance ball bank barrel basin basket battery beacon bean bed "
    "bell belt bench bicycle bill binder blanket block board boat bolt bonus book border bottle bowl box bracket "
    "branch brass bread brick bridge brief broom brush bucket budget buffer bulb bundle button cabin cabinet "
    "cable cake calendar camera candle canvas carbon card cargo carpet carton case cash catalog cedar cell cement "
    "center chain chair chalk channel chapter chart check cheese chest circle circuit claim class clay client "
    "clip clock cloth cloud coat code coffee coil column comet compass concert cone contact contract copper copy "
    "cord cork corner cotton counter coupon cover crane crate credit crown crystal cup current curtain curve "
    "cushion customer cycle data debit deck degree delivery deposit desk detail device dial diary dinner disk "
    "display district dock document door draft drain drawer dress drill driver drum duty eagle earth edge editor "
    "effect element engine entry envelope error estate event exchange expense export fabric factor falcon fan "
    "farm feather fee fence fiber field figure file film filter finger fire flag flask flight floor flour flower "
    "flute folder forest fork form formula frame freight fridge fruit fuel fund gallery game garden gas gate "
    "gauge gear ginger glass globe glove glue gold grain graph gravel grid group guard guest guide guitar hammer "
    "handle harbor hat hazel heater helmet hinge history holder honey hook hose hotel hour house icon image "
    "import inch index ink insert invoice iron island item jacket jar jewel joint journal juice jungle key kettle "
    "kit kitchen knife label lace ladder lake lamp language laptop laser lawn leaf league leather lemon lens "
    "letter level lever library license light limit line linen link lion list load lobby lock log lounge lumber "
    "lunch magnet mail manual map maple marble margin market mask mat match meal measure medal meeting member "
    "memory menu message metal meter method milk mill mine mint mirror mixer model module monitor month motor "
    "mount mouse museum music nail name napkin needle nest network nickel node note notice novel number nurse nut "
    "oak object ocean office oil olive onion option orange orbit order organ outlet oven owner oxygen pack page "
    "paint pair palm pan panel paper parcel park part pass paste patch path patient pattern payment pearl pedal "
    "pen pencil pepper period permit phone photo piano pick picture piece pillow pilot pin pine pipe plan plane "
    "plant plastic plate player plug pocket point polish pool port post powder power premium price print printer "
    "prize product profile profit program project pulley pump purse quartz queen query quota rack radar radio "
    "rail ramp range rate ratio razor receipt record reel region rent repair reply report request reserve resin "
    "result return review ribbon rice ring river road robot rock rocket rod role roof room rope rose route rubber "
    "rule ruler saddle safety sail salad salary sale salmon salt sample sand sauce scale scanner scarf school "
    "score screen screw seal search season seat section seed sensor series server service session shade shelf "
    "shell shield ship shirt shoe shop shovel sign signal silk silver sink site size sketch slate sleeve slot "
    "soap sock socket soda sofa soil solar sound soup source space spark speaker spice spring square stack staff "
    "stage stamp stand staple station statue steam steel stem step stick stock stone storage store storm stove "
    "strap straw street string studio style sugar suit summer supply support surface sweater switch symbol syrup "
    "system table tablet tag tank tape target tariff tax team tent terminal test text theme thread ticket tile "
    "timber timer tin tire title toast token tool topic torch towel tower track tractor trade trail train tray "
    "treaty tree trial truck trunk tube tulip tunnel turbine type unit update user valley value valve van vase "
    "vault vector vehicle velvet vendor vest video view village vinyl violin visit voice volume voucher wagon "
    "wall wallet walnut waste watch water wave wax weight wheel whistle willow window wing winter wire wood wool "
    "word work wrench yard yarn year zinc zone"
)
ADJECTIVES = _S(
    "active annual basic black blue brown bulk central clean clear cold common compact coastal daily dark deep "
    "digital direct double dry eastern electric extra fast final fine first flat flexible formal fresh full "
    "general global gray green half hard heavy high hollow indoor inner internal large late left light local long "
    "low main major manual medium middle minor mobile modern monthly narrow natural new nominal northern old open "
    "outdoor outer plain portable primary prime private public quick quiet random rapid red regular remote rigid "
    "right robust rough round safe second secure senior sharp short silent simple single slim slow small smart "
    "smooth soft solid southern special spare stable standard static steady steep stiff strong thick thin third "
    "total tough triple upper urban vertical warm weekly western white wide wireless yearly yellow young"
)
FIRST = _S(
    "Ada Adam Agnes Alan Alice Amir Ana Andre Anna Anton Arjun Astrid Ben Bianca Boris Carla Carlos Chen Clara "
    "Colin Dana Daniel Daria David Diego Dora Edith Elena Elias Emil Emma Erik Esther Eva Fatima Felix Fiona "
    "Frank Freya Gina Grace Greta Hana Hans Helen Henry Hugo Ida Igor Ines Ingrid Iris Ivan Jack Jana Jonas Julia "
    "Kai Karin Kenji Klara Lara Lars Laura Lena Leo Lina Louis Lucia Lukas Maria Marco Marta Max Maya Mia Milan "
    "Mina Mona Nadia Nils Nina Noah Nora Olga Oliver Omar Oscar Otto Paul Pedro Petra Priya Quinn Ravi Rita Robin "
    "Rosa Ruth Samir Sara Sean Selma Simon Sofia Stefan Sven Tara Theo Tina Tomas Uma Vera Victor Viola Walter "
    "Wanda Xenia Yara Yusuf Zara Zoe"
)
LAST = _S(
    "Abbott Adler Ahmed Almeida Andersen Baker Barnes Bauer Becker Bell Berg Bishop Blake Bond Bowen Brandt "
    "Brooks Burke Byrne Carter Castro Chan Clark Cole Cooper Costa Cruz Dahl Dalton Davies Dixon Doyle Dubois "
    "Eaton Ellis Engel Evans Farrell Fischer Fleming Foster Fowler Fuchs Garcia Gibson Gomez Grant Gray Gupta "
    "Haas Hansen Harper Hayes Hoffman Holt Hughes Hunt Ibrahim Jansen Jensen Johnson Jordan Kaur Keller Kelly Kim "
    "King Klein Koch Kramer Kumar Lang Larsen Lee Lewis Lindberg Lopez Lund Marsh Martin Mason Meyer Miller "
    "Molina Moore Morgan Mueller Murphy Nagy Nash Nelson Novak Nunez Okafor Olsen Ortiz Osborn Owens Palmer Park "
    "Patel Perez Petrov Pham Porter Quist Ramos Reed Reyes Rhodes Rossi Roth Russo Sanders Sato Schmidt Shaw "
    "Silva Singh Sloan Smith Sousa Stone Suzuki Tanaka Taylor Thomas Torres Turner Vargas Vega Vogel Wagner Walsh "
    "Wang Weber Wells West White Wong Wright Yamada Young Zhang Ziegler"
)
PLACES = _S(
    "Aberdeen Ankara Antwerp Athens Austin Basel Bergen Berlin Bern Bogota Boston Bremen Bristol Brno Cairo "
    "Calgary Chicago Cologne Cork Dallas Denver Dresden Dublin Durban Essen Exeter Florence Geneva Genoa Ghent "
    "Glasgow Graz Hamburg Hanoi Helsinki Houston Jakarta Kyoto Lagos Leeds Leipzig Lima Linz Lisbon London Lyon "
    "Madrid Malmo Manila Miami Milan Monaco Munich Nairobi Naples Nice Osaka Oslo Ottawa Oxford Paris Perth "
    "Phoenix Porto Prague Quito Riga Rome Salem Seattle Seoul Seville Sofia Sydney Tallinn Tampa Tokyo Toledo "
    "Toronto Trento Tucson Turin Utrecht Valencia Vienna Vilnius Warsaw York Zagreb Zurich"
)
STREETS = _S("Street Road Lane Avenue Drive Square Court Way Place Row")
COMPANY = _S(
    "Ltd Inc GmbH Group Labs Works Partners Supply Systems Trading Studio Foods Motors Energy Textiles Logistics"
)
MONTHS = _S("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
CURRENCIES = ("$", "$", "EUR ", "USD ", "GBP ", "")
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def cased(text: str, rng: random.Random) -> str:
    """The words in one of the cases that pages use."""
    style = rng.random()
    if style < 0.45:
        return text[:1].upper() + text[1:]
    if style < 0.8:
        return text.title()
    return text.upper() if style < 0.88 else text


def phrase(rng: random.Random, words: int = 2) -> str:
    """An adjective and nouns: "compact steel valve"."""
    parts = [rng.choice(ADJECTIVES)] if words > 1 and rng.random() < 0.6 else []
    return " ".join(parts + [rng.choice(NOUNS) for _ in range(words - len(parts))])


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def company(rng: random.Random) -> str:
    name = rng.choice(LAST) if rng.random() < 0.5 else rng.choice(NOUNS).title()
    return f"{name} {rng.choice(COMPANY)}"


def address(rng: random.Random) -> str:
    return f"{rng.randint(1, 299)} {rng.choice(NOUNS + LAST).title()} {rng.choice(STREETS)}"


def amount(rng: random.Random, currency: str | None = None) -> str:
    value = round(10 ** rng.uniform(0.3, 4.2), 2)
    sign = rng.choice(CURRENCIES) if currency is None else currency
    return f"{sign}{value:,.2f}" if rng.random() < 0.8 else f"{sign}{value:.2f}"


def date(rng: random.Random) -> str:
    year, month, day = rng.randint(1998, 2031), rng.randint(1, 12), rng.randint(1, 28)
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}.{month:02d}.{year}",
            f"{month:02d}/{day:02d}/{year}",
            f"{day} {MONTHS[month - 1]} {year}",
            f"{MONTHS[month - 1]} {day}, {year}",
        )
    )


def code(rng: random.Random) -> str:
    letters = "".join(rng.choices(_LETTERS, k=rng.randint(2, 3)))
    digits = "".join(rng.choices("0123456789", k=rng.randint(3, 6)))
    return rng.choice((f"{letters}-{digits}", f"{letters}{digits}", digits, f"#{digits}", f"{digits[:2]}-{letters}"))


def number(rng: random.Random) -> str:
    return str(int(10 ** rng.uniform(0, 4)))


def percent(rng: random.Random) -> str:
    return f"{rng.uniform(0, 100):.{rng.randint(0, 1)}f}%"


def clock(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"


def phone(rng: random.Random) -> str:
    return f"+{rng.randint(1, 99)} {rng.randint(100, 999)} {rng.randint(1000, 99999)}"


def sentence(rng: random.Random, words: int) -> str:
    body = " ".join(rng.choice(NOUNS if rng.random() < 0.6 else ADJECTIVES) for _ in range(words))
    return body.capitalize() + rng.choice((".", ".", "", ",", ":"))


VALUES = (amount, amount, date, date, code, code, number, percent, clock, person, company, address)


def value(rng: random.Random) -> str:
    """Something that a field may hold."""
    return rng.choice(VALUES)(rng)
