"""What a coded attribute may say: an operator or a gateway can write anything into any element of a header.

Where the standard has a list of terms, a value that is not on it does not leave the header; where it has none
but the field's words are known (body parts, tracers, contrast agents, units), a text with another word in
it does not. Dates, ages and code strings must have their form. What is left to be free text (manufacturer,
model, sequence, kernel, and what a data set adds by name) is looked through for words of the patient's
identity by `withholding`. Lists: PS3.3 C.7.3, C.7.6, C.8.3, C.8.4, C.8.9, C.11.1; PS3.16 Annex L, CID 12,
18, 25, 4021.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from radiobject_assets.imaging.dicom import tags as t


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES = _words(
    """ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DMS DG DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD
    IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS
    PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SC SEG
    SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC ST"""
)

_CLOSED: dict[int, frozenset[str]] = {
    t.MODALITY: MODALITIES,
    t.SCANNING_SEQUENCE: _words("SE IR GR EP RM"),
    0x00180021: _words("SK MTC SS TRSS SP MP OSP NONE"),  # SequenceVariant
    0x00180023: _words("2D 3D"),  # MRAcquisitionType
    0x00080064: _words("DV DI DF WSD SD SI DRW SYN"),  # ConversionType
    0x00185100: _words(
        "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL AFP AFS PFP PFS"
    ),  # PatientPosition
    t.PHOTOMETRIC: _words(
        """MONOCHROME1 MONOCHROME2 RGB HSV ARGB CMYK YBR_FULL YBR_FULL_422 YBR_PARTIAL_422
        YBR_PARTIAL_420 YBR_ICT YBR_RCT XYB"""
    )
    | {"PALETTE COLOR"},
    t.BURNED_IN: _words("YES NO"),
    t.UNITS: _words(
        """CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS
        MLMINML MLML GML STDDEV HU GY RELATIVE"""
    ),
    t.DOSE_UNITS: _words("GY RELATIVE"),
    t.DOSE_TYPE: _words("PHYSICAL EFFECTIVE ERROR"),
    t.DOSE_SUMMATION_TYPE: _words(
        """PLAN MULTI_PLAN PLAN_OVERVIEW FRACTION BEAM BRACHY FRACTION_SESSION BEAM_SESSION BRACHY_SESSION
        CONTROL_POINT RECORD"""
    ),
    t.DECAY_CORRECTION: _words("NONE START ADMIN"),
    t.SUV_TYPE: _words("BSA BW LBM IBW LBMJAMES128 LBMJANMA"),
    t.CORRECTED_IMAGE: _words(
        "UNIF COR NCO DECY ATTN SCAT DTIM NRGY ENER LIN MOTN PMOT CLN RAN RADL DCAL NORM FLOOD"
    ),
    0x00200060: _words("R L B U"),  # Laterality
    0x00282110: _words("00 01"),  # LossyImageCompression
    0x00100040: _words("M F O"),  # PatientSex
    t.SEGMENT_ALGORITHM: _words("AUTOMATIC SEMIAUTOMATIC MANUAL"),
    t.ROI_ALGORITHM: _words("AUTOMATIC SEMIAUTOMATIC MANUAL"),
    t.ROI_TYPE: _words(
        """EXTERNAL PTV CTV GTV TREATED_VOLUME IRRAD_VOLUME BOLUS AVOIDANCE ORGAN MARKER REGISTRATION
        ISOCENTER CONTRAST_AGENT CAVITY BRACHY_CHANNEL BRACHY_ACCESSORY BRACHY_SRC_APP BRACHY_CHNL_SHLD
        SUPPORT FIXATION DOSE_REGION CONTROL DOSE_MEASUREMENT DEVICE GTV_PRIMARY GTV_NODAL ITV"""
    ),
}

_CODE_STRINGS = re.compile(r"[A-Z0-9_ ]{0,16}(\\[A-Z0-9_ ]{0,16})*")
_DATE = re.compile(r"\d{8}")
_FORMS: dict[int, re.Pattern[str]] = {
    t.IMAGE_TYPE: _CODE_STRINGS,
    0x00180022: _CODE_STRINGS,  # ScanOptions
    t.PATIENT_AGE: re.compile(r"\d{3}[DWMY]"),
    t.ACQUISITION_DATE: _DATE,
    t.SERIES_DATE: _DATE,
    0x00080020: _DATE,  # StudyDate
    t.ACQUISITION_DATE_TIME: re.compile(r"\d{8}(\d{0,6}(\.\d{1,6})?([+-]\d{4})?)"),
    t.FRAME_OF_REFERENCE: re.compile(r"[0-9.]{1,64}"),
}

_BODY = _words(
    """abd abdomen abdominal abdominopelvic acetabulum acromioclavicular adrenal ankle anterior anus
    aorta aortic apex appendix arch arm arms arterial arteries artery ascending atrium axilla axillary
    back bilateral bile biliary bladder blood body bone bones bowel brachial brain brainstem breast
    breasts bronchus buttock calcaneus calf cardiac carotid cava central cerebellum cerebral cerebrum
    cervical cervico cervix cheek chest circle clavicle coccyx colon column common cord coronary cranial
    cranium dental descending disc duct duodenum ear ears elbow entire esophagus external extremities
    extremity eye eyes eyelid face facial femoral femur fibula finger fingers flank foot feet forearm
    fossa frontal full gallbladder gastric gland groin hand hands head heart hepatic hilum hip hips
    humerus iac iliac ilium inferior inguinal inner internal intestine intracranial jaw jejunum joint
    jugular kidney kidneys knee knees kub larynx lateral left leg legs limb lip liver lower lumbar lumbo
    lumbosacral lung lungs mandible mastoid maxilla medial mediastinum mesenteric middle mouth mrcp
    multiple muscle musculoskeletal nasal nasopharynx neck nerve nose occipital optic oral orbit orbits
    orbital other ovary palate pancreas paranasal parathyroid parietal parotid patella pelvic pelvis
    penis perineum peripheral petrous phantom pharynx pituitary portal posterior prostate pulmonary
    rectum region renal retroperitoneum rib ribs right sacral sacro sacroiliac sacrum salivary scalp
    scapula sclera scrotum sella shoulder shoulders sinus sinuses skin skull small soft sphenoid spinal
    spine spleen sternoclavicular sternum stomach structure subclavian superior system teeth temporal
    temporomandibular testis testes thigh thighs thoracic thoraco thorax throat thumb thymus thyroid
    tibia tissue tmj toe toes tongue tooth trachea tract trunk turcica ulna ulnar upper ureter urethra
    urinary uterus vagina vascular vein veins venous ventricle vertebra vessel vessels vulva whole
    willis wrist wrists zygoma and of cspine tspine lspine sspine ctspine tlspine lsspine hnspine cta
    mra wb kopf hals schulter knie fuss bauch becken hirn schaedel wirbelsaeule herz leber tete cou
    genou bassin rachis coeur foie cerveau
    anomalous antecubital appendage area arteriosus arteriovenous articular atrial auditory auricular
    azygos baffle basilar boyd broad bursa calyx canal cephalic chamber coccygeal coeliacus collateral
    communicating communication communis conduit confluence congenital cor cornea dodd ductus endo
    epigastric esophageal fallopian femoris fistula fontanel genicular graft great hunterian
    hypochondriac hypogastric hypopharynx ileum inflow innominate intra junction juxtaposed lacrimal
    large ligament lingual lumen mammary nasopharyngeal network notch omental omentum ophthalmic or
    outer outflow pancreatic parasternal patent perforating peroneal popliteal primitive profunda
    quadrant radial rectal s saphenofemoral saphenous sesamoid sigmoid splenic subcostal submandibular
    submental subxiphoid superficial supraclavicular suprasternal systemic systems tarsal tibial to
    triatriatum tributary truncus tubes umbilical ureteric urethral vaginal vena vertebral vesical"""
)
_LEVEL = re.compile(r"[CTLS]\d{1,2}")
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+")

_NUCLIDES = _words(
    """f c n o i p ga ge tc tl rb cu zr lu y sr in xe kr cr co fe se k na br as ra au sm ho re er m mo
    zn mn sc tb mtc mkr gd yb ti nb ta ir ru pb hg ac bi at carbon nitrogen oxygen fluorine fluoride
    iodine gallium germanium technetium technetate thallium rubidium copper zirconium lutetium yttrium
    strontium indium xenon krypton chromium cobalt iron selenium potassium sodium bromine arsenic radium
    gold samarium holmium rhenium phosphorus zinc manganese scandium terbium gadolinium ytterbium
    titanium niobium tantalum iridium ruthenium lead actinium"""
)
_TRACERS = _NUCLIDES | _words(
    """fdg fluorodeoxyglucose deoxyglucose glucose fludeoxyglucose naf fch fec choline fluorocholine
    acetate ammonia nh water butanol methionine met fet fluoroethyltyrosine fluorethyltyrosin tyrosine
    dopa fdopa fluorodopa fluoro l flt fluorothymidine thymidine fmiso misonidazole fluoromisonidazole
    faza fes fluoroestradiol fluciclovine facbc fluciclatide flurpiridaz flumazenil fallypride
    raclopride carfentanil mespiperone spiperone florbetapir florbetaben flutemetamol flortaucipir
    fluortaucipir av thk mk pi pib pittsburgh compound b amyvid neuraceq vizamyl tauvid axumin cerianna
    pylarify illuccix locametz posluma netspot detectnet lymphoseek cardiolite myoview psma dcfpyl dcfbc
    piflufolastat flotufolastat gozetotide hbed cc rh fapi dota dotatate dotatoc dotanoc toc noc
    edotreotide octreotide oxodotreotide pentetreotide pentixafor exendin trastuzumab bevacizumab
    cetuximab rituximab girentuximab panitumumab pertuzumab edta dtpa pentetate pentetic dmsa succimer
    mag mercaptoacetyltriglycine mertiatide tiatide mdp hdp dpd medronate oxidronate hedp pyrophosphate
    pyp phosphate sestamibi mibi tetrofosmin teboroxime exametazime hmpao bicisate ecd ceretec neurolite
    sulfur sulphur colloid nanocolloid albumin maa macroaggregated aggregated microspheres red cells rbc
    tagged labeled labelled pertechnetate mebrofenin disofenin hida iminodiacetate depreotide
    besilesomab sulesomab tilmanocept trodat datscan ioflupane iofetamine mibg iobenguane
    iodobenzylguanidine hippurate iothalamate citrate chloride dichloride oxyquinoline oxine capromab
    pendetide thallous lyso dotatata ucb j dpa dihydro tetrabenazine dtbz pbr pk glutamine glutamate
    sarcosine palmitate monoxide dioxide gas technegas pseudogas aerosol solution injection injectable
    tracer isotope radionuclide radiopharmaceutical none unknown other human serum acid ligand kit
    hydrochloride sulfate and with
    ab acetylaspartylglutamate agn anti antibody ascorbate atsm barium bengal benralizumab bleomycin
    blinatumomab brentuximab calcium carbonate cd cell ceruloplasmin cg chromate chromic clr cmab
    cyanocobalamin d dextran df diagnostic diethylenetriamine dihydrotetrabenazine dn e ecromeximab
    etidronate fa ferrous fibrinogen fk flb flubatine fluorobenzothiazole fluoroetanidazole
    fluoromethane fluoropropyl fluorotriopride fluorouracil fresolimumab g galactosyl gamma
    glembatumumab globulin glucoheptonate h hcat iodide iodinated iodocholesterol iodohippurate
    iodophenyl iso label lidofenin margetuximab medi mercaptoacetyl methylpentadecanoic methyltryptophan
    microaggregated mogamulizumab monoclonal nanocolloidal nifene nitrate obinituzimab ocaratuzumab oh
    oleic peg pegdinetanib phytate pinatuzumab polatuzumab polyvinylpyrrolidone povidone ptsm pyridoxyl
    r radioisotope ranibizumab ro roledumab rose s sar selenomethionione stannous substituted t
    therapeutic transferrin trc triglycine triolein trisodium trofolastat u ublituximab vedotin
    versenate xmab xylose"""
)
_AGENTS = _words(
    """air barium sulfate gastrografin gastroview telebrix peritrast micropaque readi cat omnipaque
    iohexol visipaque iodixanol ultravist iopromide isovue iopamiro iopamidol iomeron iomeprol optiray
    ioversol oxilan ioxilan hexabrix ioxaglate xenetix iobitridol conray iothalamate cysto renografin
    diatrizoate meglumine accupaque imagopaque solutrast imeron scanlux niopam omniscan gadodiamide
    magnevist gadopentetate dimeglumine dotarem clariscan gadoterate gadoteric gadovist gadavist
    gadobutrol prohance gadoteridol multihance gadobenate primovist eovist gadoxetate gadoxetic optimark
    gadoversetamide ablavar vasovist gadofosveset elucirem vueway gadopiclenol artirem magnograf
    cyclolux feridex resovist ferumoxytol feraheme gadolinium gado gd gbca iodine iodinated ionic non
    nonionic contrast agent media medium bolus enhanced post pre with without and plus saline nacl
    sodium chloride water glucose dextran manganese mannitol lumirem buscopan lasix oral orally rectal
    rectally iv intravenous intraarticular intrathecal arterial venous po pr cc cm mg ml mls mmol l i s
    g kg per sec dose vol inj injection manual yes no none ce applied km ja nein oui
    acetrizoate acid bunamiodyl carbon chloriodized dioxide diprotrizoate disodium iodamide iodipamide
    iodized iodoalphionic iodomethamate iodophthalein iodopyracet iopanoic iophendylate iophenoxic
    ipodate iron mangafodipir metrizamide metrizoate oil oxygen propyliodone radiopaque trisodium
    tyropanoate xenon"""
)
_UNITS = _words(
    """od hu us mgml z_eff ed edw hu_mod pct hz khz ppm ppb ms s 1/s ms-1 s-1 rad mrad degree deg cm/s
    mm/s mm2/s um2/s 10^-6mm2/s 10-6mm2/s 1e-6mm2/s bqml bq/ml gml g/ml suv suvbw suv_bw suvlbw kpa pa
    ml/100g/min ml/min ml/100ml mg/ml mmol mm um mm2 normalized normalised pval none unspecified
    arbitrary a.u. au cnts counts cps % percent 1 gy cgy pixel
    rad/s t"""
)


def _single_terms(terms: frozenset[str]) -> Callable[[str], str]:
    def keep(text: str) -> str:
        return "\\".join(v for value in text.split("\\") if (v := value.strip().upper()) in terms)

    return keep


def _of_form(form: re.Pattern[str]) -> Callable[[str], str]:
    return lambda text: text if form.fullmatch(text) else ""


def _made_of(word: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word is one of the vocabulary, or such words written together (ABDOMENPELVIS)."""
    if not word or word in vocabulary:
        return True
    return any(word[:n] in vocabulary and _made_of(word[n:], vocabulary) for n in range(len(word) - 2, 2, -1))


def _body_part(text: str) -> str:
    known = (
        _LEVEL.fullmatch(word.upper()) or (len(word) <= 32 and _made_of(word, _BODY))
        for word in re.findall(r"[^\W_]+", text.casefold())
    )
    return text if all(known) else ""


def _of_words(vocabulary: frozenset[str], most_digits: int) -> Callable[[str], str]:
    """Keeps texts of known words and of numbers that are too short to be anybody's."""

    def keep(text: str) -> str:
        numbers = _DIGITS.findall(text)
        short = all(len(number) <= most_digits for number in numbers) and len("".join(numbers)) <= 12
        known = all(word in vocabulary for word in _LETTERS.findall(text.casefold()))
        return text if short and known else ""

    return keep


def _units(text: str) -> str:
    return text if text.casefold().replace(" ", "") in _UNITS else ""


_RULES: dict[int, Callable[[str], str]] = {
    **{tag: _single_terms(terms) for tag, terms in _CLOSED.items()},
    **{tag: _of_form(form) for tag, form in _FORMS.items()},
    0x00180015: _body_part,  # BodyPartExamined
    0x00180010: _of_words(_AGENTS, most_digits=3),  # ContrastBolusAgent
    t.RADIOPHARMACEUTICAL: _of_words(_TRACERS, most_digits=5),
    0x00281054: _units,  # RescaleType
}
FREE = frozenset({t.MANUFACTURER, t.MODEL_NAME, 0x00180024, t.KERNEL})
"""What is allowed by default and has no list: names of vendor, model and sequence, the kernel."""


@lru_cache(maxsize=4096)
def in_terms(tag: int, text: str) -> str:
    """The text of an attribute as far as its list, vocabulary or form has it; "" where nothing of it has.

    Of several values of one attribute those on its list are kept. Attributes without a rule pass as they are.
    """
    rule = _RULES.get(tag)
    return text if rule is None else rule(text)


def sidecar_in_terms(tag: int, text: str) -> str:
    """As `in_terms`, for a text of a BIDS sidecar: values are joined by `_`, units have other names."""
    if tag == t.UNITS:
        return _units(text) or in_terms(tag, text)
    if tag not in _CLOSED:
        return in_terms(tag, text)
    values = re.split(r"[\\_]", text.upper())
    return text if all(value in _CLOSED[tag] for value in values) else ""
