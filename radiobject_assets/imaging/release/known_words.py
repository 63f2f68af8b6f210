"""Words that say what an image or a segment shows, and never who was examined.

Names of channels (`dataset.json`) and of segments (`.seg.nrrd`) are free text, and nothing in the same file
says who the patient is, so that there is nothing to compare them with. Where subjects are pseudonyms, a name
leaves only if every word of it is known here.
"""

from __future__ import annotations

import re

_IMAGES = frozenset(
    """adc arterial asl axial b b0 blue bold bval c cbct cbf cbv ce cect cet1 channel cine contrast coronal
    ct cta dce delayed delta diffusion dir dixon dsc dti dwi e echo enhanced epi fa fat fgatir field
    flair fs g gd gre green h hbv high image in inphase intensity inv ktrans late lge low mag magnitude
    map mprage mr mra mri mtt native ncct nect nocontrast non none nonorm norm normal opp opposed out
    outphase pd pdw perf perfusion pet phase portal post pre proton pt r raw red ref rescale rgb
    sagittal scan se signal space spair spect spgr ssfp star stir sub subtraction suv swi t1 t1c t1ce
    t1gd t1map t1n t1w t2 t2f t2flair t2map t2s t2star t2w tmax tof trace ttp us value venous volume
    water weighted x y z zscore
    """.split()  # noqa: SIM905 - no better one a line
)
_STRUCTURES = frozenset(
    """abdomen abdominal abscess accessory acetabulum active adenoma adipose adrenal airway amygdala and
    aneurysm anterior aorta aortic apex appendix arch arm artery ascending atrial atrium atrophy auricle
    autochthon axillary background basal bile bladder bleeding blood body bone bowel brachiocephalic
    brain brainstem breast bronchus calcification callosum cancer capsule cardiac carotid cartilage
    caudate cava cavity celiac central cerebellum cerebral cerebrospinal cervical chamber chest chiasm
    chin circle clavicle clavicula cochlea colon core coronary corpus cortex cortical costal cranial csf
    ctv cyst decidual deep descending diaphragm disc disk duct duodenum ear ed edema effusion enhancing
    esophagus et eye fat femoral femur fibula fluid foot for foreground frontal gallbladder ganglia
    gland globus glottis gluteus gm gray grey gtv gyrus hand head heart hematoma hemisphere hemorrhage
    hepatic hip hippocampus horn humerus hyperintensity iliac iliopsoas implant infarct inferior inner
    insula intestine ischemic jaw joint jugular kidney knee l label lad large larynx lateral lca left
    leg lens lesion ligament lip liver lobe long lower lt lumbar lung lv lymph main mandible marrow mass
    matter maximus medial mediastinum medius meningioma meniscus mesenteric metastasis middle minimus
    mitral mouth muscle myocardium nasal ncr neck necrosis necrotic nerve net nidus node nodule not
    nucleus occipital oesophagus of optic oral orbit organ other outer ovary pallidum pancreas
    pancreatic papillary parietal parotid patella pelvic pelvis penumbra peripheral pharynx pituitary
    plaque pleural pneumonia pole portal posterior prostate psoas ptv pubis pulmonary putamen radius rca
    rectum region renal rib right roi root rt rv sacrum scalp scapula segment segmentation seminal
    septum shoulder sinus skin skull small soft spinal spine spleen splenic sternum stomach stroke
    subclavian subcutaneous submandibular substantia superior target tc temporal testis thalamus the
    thoracic thorax thrombus thymus thyroid tibia tissue to tongue tooth torso trachea transition
    tricuspid trunk tumor tumour ulna upper ureter urethra urinary uterus valve vein vena ventral
    ventricle vertebra vertebrae vertebral vesicle vessel wall white whole with without wm wt zone
    """.split()  # noqa: SIM905 - no better one a line
)
_WORD = re.compile(r"[^\W_]+")
_NUMBERED = re.compile(r"[a-z]?\d{1,2}|\d{3}|b\d{1,4}")


def names_an_image(text: str) -> bool:
    """Whether every word of a name is one for what an image shows (`T1w`, `b 1000`, `in phase`)."""
    return _known(text, _IMAGES)


def names_a_structure(text: str) -> bool:
    """Whether every word of a name is one for a part of the body or a finding (`left lung`, `Segment_1`)."""
    return _known(text, _IMAGES | _STRUCTURES)


def _known(text: str, words: frozenset[str]) -> bool:
    found = [word.casefold() for word in _WORD.findall(text)]
    return bool(found) and all(
        word in words or word.removesuffix("s") in words or _NUMBERED.fullmatch(word) for word in found
    )
