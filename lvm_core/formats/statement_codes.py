"""Coded statements about rhythm and conduction, of four vocabularies; one line a code.

- SCP-ECG (EN 1064, annex on universal statement codes): words and meanings as PTB-XL publishes them
  (`scp_statements.csv`; Wagner P et al., Sci Data 2020;7:154).
- MDC (ISO/IEEE 11073-10102): names of rhythms and their numbers in partition 10 as DICOM publishes
  them (PS3.16, CID 3415, Cardiac Rhythm); names of blocks as in the table of PTB-XL.
- SNOMED CT as the PhysioNet challenges of 2020 and 2021 label records (`dx_mapping_scored.csv` and
  `dx_mapping_unscored.csv` of evaluation-2021; Perez Alday EA et al., Physiol Meas 2020;41:124003).

No code is of two vocabularies. What is not here says nothing: codes of single beats, and of a
disease rather than of this ECG, such as paroxysmal atrial fibrillation.
"""

from __future__ import annotations

from typing import Final

_TABLE: Final = """
SR | sinus rhythm | sinus | -
SBRAD | sinus bradycardia | sinus | -
STACH | sinus tachycardia | sinus | -
SARRH | sinus arrhythmia | sinus | -
AFIB | atrial fibrillation | af_flutter | -
AFLT | atrial flutter | af_flutter | -
PACE | normal functioning artificial pacemaker | paced | -
SVARR | supraventricular arrhythmia | other | -
SVTAC | supraventricular tachycardia | other | -
PSVT | paroxysmal supraventricular tachycardia | other | -
3AVB | third degree AV block | other | -
CLBBB | (complete) left bundle branch block | - | lbbb
CRBBB | (complete) right bundle branch block | - | rbbb
ILBBB | incomplete left bundle branch block | - | other
IRBBB | incomplete right bundle branch block | - | other
LAFB | left anterior fascicular block | - | other
LPFB | left posterior fascicular block | - | other
IVCD | non-specific intraventricular conduction disturbance | - | other
WPW | Wolff-Parkinson-White syndrome | - | other
MDC_ECG_RHY_SINUS_RHY | sinus rhythm | sinus | -
MDC_ECG_RHY_SINUS_NORMAL_RHY | normal sinus rhythm | sinus | -
MDC_ECG_RHY_SINUS_BRADY | sinus bradycardia | sinus | -
MDC_ECG_RHY_SINUS_TACHY | sinus tachycardia | sinus | -
MDC_ECG_RHY_SINUS_ARRHY | sinus arrhythmia | sinus | -
MDC_ECG_RHY_RESP_ARRHY | respiratory sinus arrhythmia | sinus | -
MDC_ECG_RHY_NON_RESP_ARRHY | non-respiratory sinus arrhythmia | sinus | -
MDC_ECG_RHY_WANDP_ARRHY | wandering pacemaker within the sinus node | sinus | -
MDC_ECG_RHY_WANDPAV_ARRHY | wandering pacemaker between sinus and AV node | other | -
MDC_ECG_RHY_ATR_ECT_RHY | atrial ectopic rhythm | other | -
MDC_ECG_RHY_ATR_TACHY | atrial tachycardia | other | -
MDC_ECG_RHY_ATR_TACHY_PAROX | paroxysmal atrial tachycardia | other | -
MDC_ECG_RHY_ATR_TACHY_MF | multifocal atrial tachycardia | other | -
MDC_ECG_RHY_ATR_TACHY_AUTO | automatic atrial tachycardia | other | -
MDC_ECG_RHY_ATR_FLUT | atrial flutter | af_flutter | -
MDC_ECG_RHY_ATR_FIB | atrial fibrillation | af_flutter | -
MDC_ECG_RHY_SV_ECT_RHY | supraventricular ectopic rhythm | other | -
MDC_ECG_RHY_SV_TACHY | supraventricular tachycardia | other | -
MDC_ECG_RHY_SV_TACHY_PAROX | supraventricular paroxysmal tachycardia | other | -
MDC_ECG_RHY_JUNC_RHY | AV junctional rhythm | other | -
MDC_ECG_RHY_AV_HEART_BLK_DEG_3 | third degree AV block | other | -
MDC_ECG_RHY_WPW_UNK | Wolff-Parkinson-White syndrome | - | other
MDC_ECG_BEAT_LBB_BLK_COMP | complete left bundle branch block | - | lbbb
MDC_ECG_BEAT_RBB_BLK_COMP | complete right bundle branch block | - | rbbb
MDC_ECG_BEAT_LBB_BLK_INCOMP | incomplete left bundle branch block | - | other
MDC_ECG_BEAT_RBB_BLK_INCOMP | incomplete right bundle branch block | - | other
MDC_ECG_BEAT_BLK_ANT_L_HEMI | left anterior fascicular block | - | other
MDC_ECG_BEAT_BLK_POS_L_HEMI | left posterior fascicular block | - | other
MDC_ECG_BEAT_BLK_IVCD | non-specific intraventricular conduction disturbance | - | other
10:9216 | sinus rhythm | sinus | -
10:9232 | normal sinus rhythm | sinus | -
10:9248 | sinus bradycardia | sinus | -
10:9264 | sinus tachycardia | sinus | -
10:9280 | sinus arrhythmia | sinus | -
10:9296 | respiratory sinus arrhythmia | sinus | -
10:9312 | non-respiratory sinus arrhythmia | sinus | -
10:9328 | wandering pacemaker within the sinus node | sinus | -
10:9344 | wandering pacemaker between sinus and AV node | other | -
10:9360 | atrial ectopic rhythm | other | -
10:9392 | atrial tachycardia | other | -
10:9408 | paroxysmal atrial tachycardia | other | -
10:9424 | multifocal atrial tachycardia | other | -
10:9440 | automatic atrial tachycardia | other | -
10:9456 | atrial flutter | af_flutter | -
10:9472 | atrial fibrillation | af_flutter | -
10:9488 | supraventricular ectopic rhythm | other | -
10:9504 | supraventricular tachycardia | other | -
10:9520 | supraventricular paroxysmal tachycardia | other | -
10:9536 | AV junctional rhythm | other | -
10:9552 | AV junctional escape rhythm | other | -
10:9568 | accelerated AV junctional rhythm | other | -
10:9584 | junctional tachycardia | other | -
10:9600 | AV reciprocating tachycardia | other | -
10:9616 | reentrant AV nodal tachycardia | other | -
10:9696 | third degree AV block | other | -
10:9840 | ventricular rhythm | other | -
10:9856 | idioventricular rhythm | other | -
10:9888 | accelerated idioventricular rhythm | other | -
10:9904 | slow ventricular tachycardia | other | -
10:9984 | ventricular tachycardia | other | -
10:10000 | ventricular flutter | other | -
10:10016 | ventricular fibrillation | other | -
10:10048 | sustained monomorphic ventricular tachycardia | other | -
10:10064 | polymorphic ventricular tachycardia | other | -
10:10080 | torsades de pointes | other | -
10:10096 | pre-excitation | - | other
10:10112 | Wolff-Parkinson-White syndrome | - | other
10:10128 | Wolff-Parkinson-White type A | - | other
10:10144 | Wolff-Parkinson-White type B | - | other
10:10176 | atrial demand mode pacing | paced | -
10:10240 | ventricular demand mode pacing | paced | -
426783006 | sinus rhythm | sinus | -
426177001 | sinus bradycardia | sinus | -
427084000 | sinus tachycardia | sinus | -
427393009 | sinus arrhythmia | sinus | -
164889003 | atrial fibrillation | af_flutter | -
164890007 | atrial flutter | af_flutter | -
195080001 | atrial fibrillation and flutter | af_flutter | -
314208002 | rapid atrial fibrillation | af_flutter | -
10370003 | pacing rhythm | paced | -
251268003 | atrial pacing pattern | paced | -
251266004 | ventricular pacing pattern | paced | -
106068003 | atrial rhythm | other | -
233892002 | accelerated atrial escape rhythm | other | -
195101003 | wandering atrial pacemaker | other | -
713422000 | atrial tachycardia | other | -
426761007 | supraventricular tachycardia | other | -
67198005 | paroxysmal supraventricular tachycardia | other | -
251166008 | AV nodal reentrant tachycardia | other | -
233897008 | AV reentrant tachycardia | other | -
29320008 | AV junctional rhythm | other | -
426664006 | accelerated junctional rhythm | other | -
426648003 | junctional tachycardia | other | -
27885002 | complete heart block | other | -
49260003 | idioventricular rhythm | other | -
61277005 | accelerated idioventricular rhythm | other | -
81898007 | ventricular escape rhythm | other | -
164895002 | ventricular tachycardia | other | -
425856008 | paroxysmal ventricular tachycardia | other | -
111288001 | ventricular flutter | other | -
164896001 | ventricular fibrillation | other | -
164909002 | left bundle branch block | - | lbbb
733534002 | complete left bundle branch block | - | lbbb
59118001 | right bundle branch block | - | rbbb
713427006 | complete right bundle branch block | - | rbbb
6374002 | bundle branch block | - | other
251120003 | incomplete left bundle branch block | - | other
713426002 | incomplete right bundle branch block | - | other
445118002 | left anterior fascicular block | - | other
445211001 | left posterior fascicular block | - | other
698252002 | nonspecific intraventricular conduction disorder | - | other
82226007 | diffuse intraventricular block | - | other
195060002 | ventricular pre-excitation | - | other
74390002 | Wolff-Parkinson-White pattern | - | other
"""

STATED_BY_CODE: Final = {
    code: (rhythm, conduction)
    for code, _, rhythm, conduction in (line.split(" | ") for line in _TABLE.strip().splitlines())
}
"""Rhythm and conduction, or `-`, by code."""
